"""A job is seen by who created it and by the account's owner; to all others it is not there."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings

from python_mcp_server import model
from python_mcp_server.errors import JobExpired, JobNotFound
from python_mcp_server.jobs.expired import remove_job
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.model import Job, JobState
from python_mcp_server.options import JobOptions
from python_mcp_server.server.app import create_server
from python_mcp_server.server.principals import current_principal, find_job


@contextmanager
def asked_by(client_id: str, subject: str | None = None, issuer: str | None = None) -> Iterator[None]:
    """Make the requests inside those of somebody whom a verifier of tokens knows."""
    token = AccessToken(
        token="", client_id=client_id, scopes=[], subject=subject, claims={"iss": issuer} if issuer else None
    )
    reset = auth_context_var.set(AuthenticatedUser(token))
    try:
        yield
    finally:
        auth_context_var.reset(reset)


def principal_of(*who: str | None) -> str | None:
    with asked_by(*who):  # type: ignore[arg-type]
        return current_principal()


def a_job(principal: str | None, status: JobState = JobState.COMPLETED) -> Job:
    now = model.utc_now()
    ended = now if status.terminal else None
    return Job(model.new_job_id(), "a label", status, now, completed_at=ended, principal=principal)


def test_without_a_token_it_is_the_owner():
    assert current_principal() is None


def test_a_person_is_the_same_through_every_client_of_one_issuer():
    ada = principal_of("editor", "ada", "https://one.example")
    assert ada == principal_of("phone", "ada", "https://one.example")
    assert ada != principal_of("editor", "ada", "https://two.example")
    assert ada != principal_of("editor", "bob", "https://one.example")


def test_no_caller_can_choose_the_name_of_another():
    names = [
        principal_of("ada"),
        principal_of("x", "ada"),
        principal_of("x", "b", 'a"'),
        principal_of("x", '"b', "a"),
        principal_of('subject:[null, "ada"]'),
    ]
    assert len(set(names)) == len(names)


def test_the_owner_sees_all_and_a_principal_its_own():
    jobs = [a_job(None), a_job("client:ada"), a_job("client:bob")]
    assert [job.belongs_to(current_principal()) for job in jobs] == [True, True, True]
    with asked_by("ada"):
        assert [job.belongs_to(current_principal()) for job in jobs] == [False, True, False]


@pytest.fixture
def manager(home: Path) -> Iterator[JobManager]:
    made = JobManager()
    yield made
    made.store.close()


async def test_a_job_of_another_is_as_unknown_as_one_that_never_was(manager: JobManager):
    async with manager:
        theirs = a_job("client:bob")
        manager.store.create(theirs)
        assert await find_job(manager, theirs.id) == theirs
        with asked_by("ada"):
            for job_id in (theirs.id, "nobody"):
                with pytest.raises(JobNotFound) as caught:
                    await find_job(manager, job_id)
                assert str(caught.value) == f"Job {job_id} not found"


async def test_a_client_sees_a_job_until_its_token_is_over(manager: JobManager):
    async with manager:
        job = a_job("client:ada").evolve(created_at=model.utc_now() - timedelta(hours=2))
        for count, seen in ((1, False), (3, True)):
            each = job.evolve(id=model.new_job_id(), options=JobOptions(token_seconds=count * 3600))
            manager.store.create(each)
            assert await find_job(manager, each.id) == each
            with asked_by("ada"):
                found, _ = await manager.list(principal=current_principal())
                assert ([one.id for one in found] == [each.id]) == seen
                if not seen:
                    with pytest.raises(JobNotFound, match=f"^Job {each.id} not found$"):
                        await find_job(manager, each.id)


async def test_an_expired_job_of_another_is_as_unknown_as_one_that_never_was(manager: JobManager):
    async with manager:
        for principal, text in (("client:ada", "has expired (it ended "), ("client:bob", "not found")):
            gone = a_job(principal, JobState.COMPLETED)
            manager.store.create(gone)
            remove_job(manager.store, gone)
            with asked_by("ada"), pytest.raises(JobNotFound) as caught:
                await find_job(manager, gone.id)
            assert str(caught.value).startswith(f"Job {gone.id} {text}")
            assert caught.value.__cause__ is None
            with pytest.raises(JobExpired):
                await find_job(manager, gone.id)


JOB_TOOLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("py_job_status", {}),
    ("py_job_status", {"incremental": True}),
    ("py_wait_job", {"timeout_seconds": 0}),
    ("py_job_output", {}),
    ("py_cancel_job", {}),
    ("py_answer_job", {"key": "question-1", "response": "yes"}),
)


async def test_no_job_tool_knows_a_job_of_another(manager: JobManager):
    server = create_server(manager)

    theirs = a_job("client:bob", JobState.PENDING)
    manager.store.create(theirs)
    with asked_by("ada"):
        async with manager, Client(server) as client:
            for tool, arguments in JOB_TOOLS:
                told = [
                    await client.call_tool(tool, {"job_id": job_id, **arguments})
                    for job_id in (theirs.id, "nobody")
                ]
                assert [result.is_error for result in told] == [True, True]
                assert told[0].content[0].text == f"Job {theirs.id} not found"  # type: ignore[union-attr]
    left = manager.store.get(theirs.id)
    assert left is not None
    assert (left.status, left.ending) == (JobState.PENDING, None)


async def test_listing_and_pruning_are_about_ones_own_jobs(manager: JobManager):
    server = create_server(manager)

    mine, theirs, owners = a_job("client:ada"), a_job("client:bob"), a_job(None)
    live = a_job("client:ada", JobState.PENDING)
    for job in (mine, theirs, owners, live):
        manager.store.create(job)
    gone = {"keep_completed": False, "max_age_hours": 0}
    with asked_by("ada"):
        async with manager, Client(server) as client:
            for limit, more in ((1, True), (2, False)):
                listed = (await client.call_tool("py_list_jobs", {"limit": limit})).structured_content
                assert listed is not None
                assert {job["id"] for job in listed["jobs"]} <= {mine.id, live.id}
                assert (listed["total"], listed["more"]) == (limit, more)
            pruned = (await client.call_tool("py_prune_jobs", gone)).structured_content
            assert pruned == {"removed": 1, "remaining": 1}
    assert [job and job.id for job in map(manager.store.get, (mine.id, theirs.id, owners.id))] == [
        None,
        theirs.id,
        owners.id,
    ]


class Names:
    """Takes the name of a person for their token."""

    async def verify_token(self, token: str) -> AccessToken:
        return AccessToken(token=token, client_id="an editor", scopes=[], subject=token)


async def test_users_known_to_a_verifier_have_jobs_of_their_own(manager: JobManager, tmp_path: Path):
    here = "http://127.0.0.1"
    facts = {"issuer_url": here, "resource_server_url": here, "validate_token_resource": False}
    auth = AuthSettings.model_validate(facts)
    server = create_server(manager, auth=auth, token_verifier=Names())
    app = server.streamable_http_app()

    @asynccontextmanager
    async def client_of(person: str) -> AsyncGenerator[Client]:
        way = httpx2.ASGITransport(app)
        headers = {"Authorization": f"Bearer {person}"}
        async with httpx2.AsyncClient(transport=way, headers=headers) as http:
            transport = streamable_http_client(f"{here}:8000/mcp", http_client=http)
            async with Client(transport, mode="2026-07-28") as client:
                yield client

    arguments = {"directory": str(tmp_path), "script_content": "pass", "async_mode": True}
    async with manager, server.session_manager.run():
        async with client_of("ada") as ada:
            handle = (await ada.call_tool("py_run_script_in_dir", arguments)).structured_content
            assert handle is not None
            job_id = handle["job_id"]
            assert not (await ada.call_tool("py_wait_job", {"job_id": job_id})).is_error
        async with client_of("bob") as bob:
            assert (await bob.call_tool("py_wait_job", {"job_id": job_id})).is_error
        assert (await manager.get(job_id)).principal == 'subject:[null, "ada"]'


async def test_a_job_belongs_to_the_caller_of_its_call(manager: JobManager, tmp_path: Path):
    server = create_server(manager)

    arguments = {"directory": str(tmp_path), "script_content": "pass", "async_mode": True}
    with asked_by("ada"):
        async with manager, Client(server) as client:
            handle = (await client.call_tool("py_run_script_in_dir", arguments)).structured_content
            assert handle is not None
            job, _ = await manager.wait(handle["job_id"], 60)
    assert (job.status, job.principal) == (JobState.COMPLETED, "client:ada")
    assert "principal" not in job.to_json()
