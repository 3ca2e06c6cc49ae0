"""A decorated function on the SDK's server, from its signature to its answers.

adapter      what the SDK sees of a function: its parameters, its schema
arguments    how arguments are read: text stays text, null means the default
calls        one call, from the request to the answer
elicitation  a job's questions, by the best channel that the client has
progress     a call's progress on its way to the client, throttled
replies      the value of a body, or what it raised, as a result of a tool
messages     JSON-RPC messages, told from what only looks like one
private      the private names of the SDK that are used, with the reasons; all but one of pydantic's

`smart_async` loads `adapter` and `calls` where the SDK is loaded; nothing here imports `smart_async`.
"""
