"""Tool bodies: plain functions of plain data, importable in a worker."""
