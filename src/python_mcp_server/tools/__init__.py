"""The bodies of the tools: plain functions of plain data, which a worker process imports by name.

scripts      py_run_script_in_dir, py_run_script_with_dependencies, and the checks of a script
commands     py_run_command, and `CommandJob`
saved        py_save_script, py_run_saved_script, py_list_scripts, and the library of saved scripts
benchmark/   py_benchmark_script
batch/       py_map_script
suite/       py_run_tests
call         what all of them share: the folder, the time limit, the output and the pictures of one call
parameters   the parameters that several tools have, with the texts that a model reads
results      the shapes of all results, from which the server makes output schemas
hints        the sentence that says what would have let a run pass

`server.app` registers the tools. Nothing here imports `mcp` or `pydantic`. To add a tool, write its body in a
module or a package here, its result in `results`, and register it in `server.app`.
"""
