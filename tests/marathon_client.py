#!/usr/bin/env python3
"""Drives the simulated Marathon with the independent `marathon` client from PyPI.

usage: marathon_client.py URL      (the URL of `portolan sim`; the package `marathon` must be installed)

Lists, creates, scales, kills and deletes through the client's own objects and waits for what its event stream tells.
Exits 0 when all of it holds, 1 with the first thing that does not.
"""

import collections
import collections.abc
import queue
import sys
import threading
import time

import requests

# The last release of the client was made for Python before 3.10, which still had this name.
collections.Iterable = collections.abc.Iterable

from marathon import MarathonClient  # noqa: E402
from marathon.exceptions import ConflictError, MarathonHttpError, NotFoundError  # noqa: E402
from marathon.models import MarathonApp  # noqa: E402
from marathon.models.events import (  # noqa: E402
    MarathonAppTerminatedEvent,
    MarathonHealthStatusChangedEvent,
    MarathonInstanceChangedEvent,
    MarathonStatusUpdateEvent,
)

PATIENCE = 20
APP = "/client/check"


def expect(holds, what):
    if not holds:
        sys.exit(f"marathon_client: {what}")
    print(f"ok: {what}", file=sys.stderr)


def wait(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"marathon_client: never: {what}")
        time.sleep(0.02)
    print(f"ok: {what}", file=sys.stderr)


class Unbuffered(requests.Session):
    """Gives lines as they come: by itself `requests` waits for 512 bytes, as the stream has no chunks."""

    def get(self, *args, **kwargs):
        response = super().get(*args, **kwargs)
        lines = response.iter_lines
        response.iter_lines = lambda: lines(chunk_size=1)
        return response


class Events:
    """The client's event stream, read by a thread of its own."""

    def __init__(self, url, kinds):
        self.seen = queue.Queue()
        client = MarathonClient(url, sse_session=Unbuffered())
        reading = threading.Thread(target=self.read, args=(client, kinds), daemon=True)
        reading.start()

    def read(self, client, kinds):
        for event in client.event_stream(event_types=kinds):
            self.seen.put(event)

    def until(self, condition, what):
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                event = self.seen.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                sys.exit(f"marathon_client: no event: {what}")
            if condition(event):
                print(f"ok: event: {what}", file=sys.stderr)
                return event


def settled(client):
    app = client.get_app(APP)
    return not app.deployments and app.tasks_running == app.instances == len(app.tasks)


def main():
    url = sys.argv[1]
    client = MarathonClient(url)
    expect(client.ping() == b'"pong"', "ping, as JSON because the client accepts nothing else")
    info = client.get_info()
    expect(info.name == "marathon" and info.elected, "info")
    expect(client.get_leader()["leader"] in url, "leader")
    before = {app.id for app in client.list_apps()}
    expect(before, "list_apps")

    events = Events(
        url,
        [
            "event_stream_attached",
            MarathonStatusUpdateEvent,
            MarathonInstanceChangedEvent,
            MarathonHealthStatusChangedEvent,
            MarathonAppTerminatedEvent,
        ],
    )
    events.until(lambda event: event.event_type == "event_stream_attached", "attached")

    check = {"protocol": "MESOS_HTTP", "path": "/health"}
    created = client.create_app(APP, MarathonApp(cmd="serve", instances=2, health_checks=[check]))
    expect(created.id == APP and created.instances == 2, "create_app")
    try:
        client.create_app(APP, MarathonApp(cmd="serve"))
        expect(False, "a second app of the same id is refused")
    except ConflictError:
        expect(True, "a second app of the same id is refused")
    events.until(lambda e: getattr(e, "app_id", "") == APP and getattr(e, "task_status", "") == "TASK_RUNNING", "running")
    events.until(lambda e: getattr(e, "app_id", "") == APP and getattr(e, "alive", False), "healthy")
    wait(lambda: settled(client), "deployed")

    app = client.get_app(APP)
    expect(all(task.ports and task.host for task in app.tasks), "tasks have places")
    expect(all(result.alive for task in app.tasks for result in task.health_check_results), "tasks are healthy")
    listed = client.list_apps(embed_tasks=True, app_id=APP)
    expect([len(own.tasks) for own in listed] == [2], "list_apps with tasks")
    tasks = client.list_tasks(APP)
    expect(len(tasks) == 2 and all(task.service_ports for task in tasks), "list_tasks")

    expect("deploymentId" in client.scale_app(APP, instances=4), "scale_app")
    wait(lambda: settled(client) and len(client.list_tasks(APP)) == 4, "scaled to 4")
    wait(lambda: not client.list_deployments(), "no deployment left")

    victim = client.list_tasks(APP)[0]
    expect(client.kill_task(APP, victim.id).id == victim.id, "kill_task")
    of_victim = lambda e: getattr(e, "task_id", "") == victim.id
    events.until(lambda e: of_victim(e) and e.task_status == "TASK_KILLING", "killing")
    events.until(lambda e: of_victim(e) and e.task_status == "TASK_KILLED", "killed")
    wait(lambda: settled(client) and victim.id not in {t.id for t in client.list_tasks(APP)}, "replaced")

    expect(client.kill_given_tasks([t.id for t in client.list_tasks(APP)[:2]], scale=True), "kill_given_tasks")
    wait(lambda: settled(client) and client.get_app(APP).instances == 2, "shrunk by the killed ones")

    old = {task.id for task in client.list_tasks(APP)}
    client.restart_app(APP)
    wait(lambda: settled(client) and not old & {task.id for task in client.list_tasks(APP)}, "all replaced by a restart")

    updated = client.update_app(APP, MarathonApp(labels={"team": "checks"}))
    expect("version" in updated, "update_app")
    wait(lambda: settled(client), "update deployed")
    expect(client.get_app(APP).labels == {"team": "checks"}, "labels kept")
    expect(len(client.list_versions(APP)) >= 2, "list_versions")
    expect(client.get_version(APP, client.list_versions(APP)[-1]).instances == 2, "get_version")
    expect(client.get_group("/client").apps[0].id == APP, "get_group")
    expect(client.list_queue() == [], "list_queue")

    try:
        client.update_app(APP, MarathonApp(instances=-1))
        expect(False, "a wrong definition is refused")
    except (MarathonHttpError, ValueError):
        expect(True, "a wrong definition is refused")

    client.delete_app(APP)
    events.until(lambda e: isinstance(e, MarathonAppTerminatedEvent) and e.app_id == APP, "terminated")
    try:
        client.get_app(APP)
        expect(False, "a deleted app is gone")
    except NotFoundError:
        expect(True, "a deleted app is gone")
    expect({app.id for app in client.list_apps()} == before, "nothing else changed")
    print("marathon_client: all well")


main()
