"""Processes: lanes, workers, channels, samplers. Knows no job states and no MCP."""
