"""`python -m python_mcp_server`: the command line."""

from __future__ import annotations

from python_mcp_server.cli import main

if __name__ == "__main__":
    main()
