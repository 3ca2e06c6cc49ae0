"""The Tasks extension (`io.modelcontextprotocol/tasks`): a call past its budget becomes a task.

extension      `TasksExtension`: `tasks/get`, `tasks/update`, `tasks/cancel`, and the hand-over of a call
negotiation    whether the request at hand may become a task, from the extension down to the decorator
wire           jobs as the protocol shows them: tasks, their results, their questions
subscriptions  `subscriptions/listen` with `taskIds`, and the watching of what changes

A task is a job, and its id is the job's.
"""
