"""Where state lies. Knows no processes and no MCP."""
