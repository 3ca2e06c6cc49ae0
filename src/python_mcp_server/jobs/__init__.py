"""What happens to a job: submit, wait, hand over, cancel, settle. Knows no MCP."""
