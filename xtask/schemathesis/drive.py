"""Starts both services and a SIMULATED wallet on free loopback ports with a throw-away data directory, puts something
into them, and has Schemathesis ask every operation of both OpenAPI documents. Called by `cargo xtask schemathesis`,
in the environment that it has made. Exit code 1 when anything is not as the documents say."""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import requests

HERE = pathlib.Path(__file__).parent
POOL = "llp-main"
EMAIL = "schemathesis@example.test"
WALLET_TOKEN = "schemathesis-wallet-token"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Services:
    """Children that do not outlive this."""

    def __init__(self, oa, data):
        self.oa, self.data, self.children = oa, data, []

    def start(self, name, arguments, environment):
        log = open(self.data / f"{name}.log", "w")
        inherited = {key: value for key, value in os.environ.items() if not re.match(r"(OA|RUNTIME|DB|DATABASE)_", key)}
        child = subprocess.Popen([self.oa, *arguments], env=inherited | environment, stdout=log, stderr=log)
        self.children.append((name, child))

    def until(self, url):
        for _ in range(600):
            for name, child in self.children:
                if child.poll() is not None:
                    sys.exit(f"{name} ended: {(self.data / f'{name}.log').read_text()[-2000:]}")
            try:
                if requests.get(url, timeout=2).status_code < 500:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.1)
        sys.exit(f"{url} does not answer")

    def stop(self):
        for _, child in self.children:
            child.terminate()
        for _, child in self.children:
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()


class Caller:
    def __init__(self, base, token=None):
        self.base, self.session = base, requests.Session()
        if token:
            self.session.headers["authorization"] = f"Bearer {token}"

    def post(self, path, body, expected=(200, 201, 202)):
        answer = self.session.post(self.base + path, json=body, timeout=30)
        if answer.status_code not in expected:
            sys.exit(f"preparing: POST {path} answered {answer.status_code}: {answer.text[:500]}")
        return answer.json()


def sign_in(control, code, email):
    caller = Caller(control)
    sent = caller.post("/api/auth/email", {"email": email})
    return caller.post("/api/auth/verify", {"code": code, "challenge_id": sent["challengeId"]})["token"]


def furnish_runtime(runtime):
    """Something for every name that stands in a path."""
    run = runtime.post("/internal/v1/runs", {"metadata": {}})["run"]["id"]
    event = {"event_type": "run.step.completed", "payload": {"step": 1}}
    runtime.post(f"/internal/v1/runs/{run}/events", event)
    worker = {"worker_id": "desktop:w1", "owner_user_id": 11, "metadata": {"roles": ["client"]}}
    runtime.post("/internal/v1/workers", worker)
    pool = {
        "schema": "openagents.liquidity.pool.create_request.v1", "operator_id": "operator:me", "pool_kind": "llp",
        "status": "active", "config": {"schema": "openagents.liquidity.pool_config.v1"},
    }
    runtime.post(f"/internal/v1/pools/{POOL}/admin/create", pool)
    quote = {
        "schema": "openagents.liquidity.pool.deposit_quote_request.v1", "lp_id": "lp:me", "idempotency_key": "first",
        "rail": "lightning_invoice", "amount_sats": 2500,
    }
    deposit = runtime.post(f"/internal/v1/pools/{POOL}/deposit_quote", quote)["deposit"]["deposit_id"]
    offer = {
        "schema": "openagents.credit.offer_request.v1", "agent_id": "a" * 64, "pool_id": "b" * 64,
        "scope_type": "nip90", "scope_id": "job-1", "max_sats": 100, "fee_bps": 100, "requires_verifier": True,
        "exp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1800)),
    }
    offered = runtime.post("/internal/v1/credit/offer", offer)["offer"]["offer_id"]
    return {
        "run_id": [run], "worker_id": ["desktop:w1"], "pool_id": [POOL], "deposit_id": [deposit],
        "offer_id": [offered], "agent_id": ["a" * 64], "stream": [f"runtime.run.{run}.events"],
    }


def furnish_control(control):
    worker = control.post("/api/runtime/codex/workers", {"adapter": "desktop_bridge"})
    worker = worker["data"]["workerId"]
    autopilot = control.post("/api/autopilots", {"displayName": "One"})["data"]["id"]
    control.post("/api/runtime/threads/thread-1/messages", {"text": "hello"})
    chat = control.post("/api/chats", {"title": "one"})["data"]
    conversation = str(chat.get("id") or chat.get("conversationId") or "1")
    return {
        "worker_id": [worker], "autopilot": [autopilot], "thread_id": ["thread-1"], "conversation_id": [conversation],
    }


def configuration(service, names, arguments, place):
    """The checked-in configuration, with the names that stand in paths half of the time."""
    text = (HERE / f"{service}.toml").read_text()
    lines = [f'seed = {arguments.seed}', "continue-on-failure = true", ""]
    bindings = ["[parameters]"]
    for name, values in names.items():
        bindings.append(f'"path.{name}" = {{ dictionary = "{name}", probability = 0.6 }}')
    dictionaries = []
    for name, values in names.items():
        dictionaries += [f"[dictionaries.{name}]", f"values = {json.dumps(values)}"]
    path = place / f"{service}.toml"
    path.write_text("\n".join([*lines, text, *bindings, *dictionaries, ""]))
    return path


def schemathesis(service, document, base, config, arguments, place, environment):
    reports = place / "reports" / service
    shutil.rmtree(reports, ignore_errors=True)
    examples = "10" if arguments.quick else str(arguments.cases)
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", document, "--url", base,
        "--max-examples", examples, "--workers", str(arguments.workers), "--no-color",
        "--generation-database", "none", "--report", "json,ndjson", "--report-dir", str(reports),
    ]
    for name in arguments.include or []:
        command += ["--include-operation-id", name]
    if arguments.phases:
        command += ["--phases", arguments.phases]
    began = time.time()
    done = subprocess.run(command, cwd=place, env=os.environ | environment)
    print(f"{service}: exit code {done.returncode} after {time.time() - began:.0f} s", flush=True)
    return done.returncode


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--oa", required=True)
    parser.add_argument("--place", required=True, type=pathlib.Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=20261123)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--service", choices=["runtime", "control"])
    parser.add_argument("--include", action="append")
    parser.add_argument("--phases")
    arguments = parser.parse_args()
    place = arguments.place.resolve()
    data = place / "data"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    wallet, runtime_port, control_port = free_port(), free_port(), free_port()
    services = Services(arguments.oa, data)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    codes, panics = [], []
    try:
        services.start("wallet", ["wallet", "--data", str(data / "wallet")], {
            "OA_LIGHTNING_WALLET_EXECUTOR_PORT": str(wallet),
            "OA_LIGHTNING_WALLET_EXECUTOR_AUTH_TOKEN": WALLET_TOKEN,
            "OA_LIGHTNING_WALLET_SIMULATED_BALANCE_SATS": "100000000",
        })
        services.start("oa", ["up", "--data", str(data / "oa")], {
            "RUNTIME_BIND_ADDR": f"127.0.0.1:{runtime_port}",
            "OA_CONTROL_BIND_ADDR": f"127.0.0.1:{control_port}",
            "RUNTIME_LIQUIDITY_WALLET_EXECUTOR_BASE_URL": f"http://127.0.0.1:{wallet}",
            "RUNTIME_LIQUIDITY_WALLET_EXECUTOR_AUTH_TOKEN": WALLET_TOKEN,
            "RUNTIME_TRUST_MODE": "lenient",
            "OA_ADMIN_EMAILS": EMAIL,
            "OA_AUTH_MOCK_MAGIC_CODE": "123456",
            "OA_AUTH_API_SIGNUP_ENABLED": "true",
            "OA_TRUSTED_PROXIES": "127.0.0.1",
        })
        runtime, control = f"http://127.0.0.1:{runtime_port}", f"http://127.0.0.1:{control_port}"
        services.until(f"{runtime}/readyz")
        services.until(f"{control}/readyz")
        token = (data / "oa/keys/service.token").read_text().strip()
        environment = {
            "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py"), "OA_UNDER_TEST": control, "OA_SIGN_IN_CODE": "123456",
            "OA_SERVICE_TOKEN": token,
        }
        if arguments.service != "control":
            names = furnish_runtime(Caller(runtime, token))
            config = configuration("runtime", names, arguments, place)
            document = place / "runtime.json"
            answer = requests.get(f"{runtime}/internal/v1/openapi.json", headers={"authorization": f"Bearer {token}"})
            document.write_text(json.dumps(unrelative(answer.json())))
            codes.append(schemathesis("runtime", str(document), runtime, config, arguments, place, environment))
        if arguments.service != "runtime":
            session = sign_in(control, "123456", EMAIL)
            names = furnish_control(Caller(control, session))
            config = configuration("control", names, arguments, place)
            document = place / "control.json"
            document.write_text(requests.get(f"{control}/openapi.json").text)
            more = environment | {"OA_SESSION": session}
            codes.append(schemathesis("control", str(document), control, config, arguments, place, more))
        log = (data / "oa.log").read_text()
        panics = [line for line in log.splitlines() if "panicked" in line]
        print(f"panics in the log: {len(panics)}")
    finally:
        services.stop()
    sys.exit(1 if any(codes) or panics else 0)


def unrelative(document):
    """Paths outside of the prefix have servers of their own, which a base URL would lie over: every path is written
    out whole instead."""
    base = document["servers"][0]["url"]
    paths = {}
    for path, operations in document["paths"].items():
        own = operations.pop("servers", None)
        paths[path if own else base + path] = operations
    return document | {"paths": paths, "servers": [{"url": "/"}]}


if __name__ == "__main__":
    main()
