"""The folder that stands in the path of scripts, so that matplotlib finds the module beside this."""
