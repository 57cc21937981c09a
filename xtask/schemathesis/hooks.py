"""Who calls: the service token at the runtime, a session at control. What ends a session gets one of its own, of
somebody else."""

import os

import requests
import schemathesis

CONTROL = os.environ["OA_UNDER_TEST"]
ENDS_SESSIONS = ("/logout", "/sessions/revoke", "/api/tokens")


def somebody():
    somebody.count += 1
    email = f"somebody-{os.getpid()}-{somebody.count}@example.test"
    sent = requests.post(f"{CONTROL}/api/auth/email", json={"email": email}, timeout=30).json()
    body = {"code": os.environ["OA_SIGN_IN_CODE"], "challenge_id": sent["challengeId"]}
    return requests.post(f"{CONTROL}/api/auth/verify", json=body, timeout=30).json()["token"]


somebody.count = 0


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
