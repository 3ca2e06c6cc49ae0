"""The Python that runs a script, with its packages: chosen, found or made by uv.

* `interpreter`: which Python a caller or a project asks for, and where it is.
* `pep723`: the header of a script, which names its packages and its Python.
* `requirements`: a `requirements.txt`, and packages that lie on this machine.
* `environments`: environments with packages, made once and kept under the home.
* `unused`: environments that nothing has used for long are removed.
* `project`: the project that a directory belongs to, and its environment.
* `uv`: uv as a child of a call, with its errors in one sentence.
* `environ`: the environment variables of a child.
"""
