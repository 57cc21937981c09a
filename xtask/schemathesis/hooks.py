"""Who calls, from where, and for whom: what a document cannot say.

The service token is the runtime's, a session is control's. What ends sessions gets one of its own, of somebody else.
Control counts tries by address, so every call of a counted row comes from another one. The owner of a thing is one of
two members, and which one follows from the credential: with the service token it has to be named."""

import itertools
import os
import sys

import requests
import schemathesis

# The recursive shapes of some bodies are deep for the generator.
sys.setrecursionlimit(20_000)

CONTROL = os.environ["OA_UNDER_TEST"]
ENDS_SESSIONS = ("/logout", "/sessions/revoke", "/api/tokens")
COUNTED = ("/api/auth/",)
numbers = itertools.count(1)


def elsewhere():
    number = next(numbers)
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def somebody():
    headers = {"x-forwarded-for": elsewhere()}
    email = f"somebody-{os.getpid()}-{next(numbers)}@example.test"
    sent = requests.post(f"{CONTROL}/api/auth/email", json={"email": email}, headers=headers, timeout=30).json()
    body = {"code": os.environ["OA_SIGN_IN_CODE"], "challenge_id": sent["challengeId"]}
    answer = requests.post(f"{CONTROL}/api/auth/verify", json=body, headers=headers, timeout=30)
    return answer.json()["token"]


@schemathesis.auth(refresh_interval=None)
class Credential:
    def get(self, case, context):
        if "OA_SESSION" not in os.environ:
            return os.environ["OA_SERVICE_TOKEN"]
        path = context.operation.path
        if context.operation.method.upper() != "GET" and any(part in path for part in ENDS_SESSIONS):
            return somebody()
        return os.environ["OA_SESSION"]

    def set(self, case, data, context):
        case.headers = case.headers or {}
        case.headers["Authorization"] = f"Bearer {data}"


def names_an_owner(members):
    return isinstance(members, dict) and ("owner_user_id" in members or "owner_guest_scope" in members)


def takes_owners(case):
    operation = case.operation
    if any(parameter.name == "owner_guest_scope" for parameter in operation.query):
        case.query = dict(case.query or {})
        return case.query
    bodies = [body.definition.get("schema", {}) for body in operation.body]
    text = str(bodies)
    if "owner_guest_scope" in text and isinstance(case.body, dict):
        return case.body
    return case.body if names_an_owner(case.body) else None


@schemathesis.hook
def before_call(context, case, kwargs):
    if any(part in case.operation.path for part in COUNTED):
        case.headers = case.headers or {}
        case.headers["X-Forwarded-For"] = elsewhere()
    generated = getattr(case.meta, "generation", None)
    if generated is None or generated.mode.value != "positive":
        return
    members = takes_owners(case)
    if members is not None:
        members.pop("owner_guest_scope", None)
        members["owner_user_id"] = 11
