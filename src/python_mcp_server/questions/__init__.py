"""The questions that a running body asks its user, and the answers.

model   a question, an answer, and an event of a question: plain data, in records and on pipes
open    the questions of one body, in the process that runs it: asked from any thread, answered from another
forms   the form of an answer, a JSON schema with flat properties: made from a class or a schema, checked,
        and held against an answer

`asking.request_input` is what bodies call. `jobs` keeps the questions of a job in its record, `server` and
`cli` show them and bring the answers. Nothing here imports MCP, pydantic or jsonschema, because workers make
and check forms.
"""
