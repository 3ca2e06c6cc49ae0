"""Runs one script in a child process. Knows no job records and no MCP.

given variables, source ──> plan (which interpreter, which packages) ──> Command ──> child
└─ uv, in a phase of its own                    └─> files, Ending
"""
