"""The store on a Redis server, which needs the extra `redis`.

job_store     the store: records, lists and the index in Redis, the files of jobs on this machine
address       the URL of a server: what it must be, and how it is shown without its password
connection    the connections of one process: patience, backoff while the server is away, errors as sentences
scripts       the Lua scripts, each one transition that a crash cannot cut in two
locks         locks with a token and a lease, which a thread renews
event_stream  the events of the jobs, in a stream

Importing this package does not import the client library: `connection` does so at its first use.
"""
