"""The folder in the path of scripts where matplotlib finds `python_mcp_pictures`, its backend."""
