"""Hostile clients, strangers and files against two servers over one home; `scripts/chaos --hostile` runs it.

Each server has a token of its own, so its client is a principal of its own. The attacks come from strangers
without a token, from the second principal, and from files that lie where a server reads. The first principal
works on in peace, and is to notice nothing.

- `experiment`: one run, from the start of both servers to the last check.
- `http_server`: a server over HTTP, and a client that sees each answer as it is.
- `peaceful`: the first principal, with its jobs. `calls`: the second one, with hostile arguments.
- `strangers`: connections without a token. `odd_files`: what is no regular file, or a hostile one.
- `findings`: what was seen, and the breaches.
"""
