"""The only place that imports the MCP SDK."""
