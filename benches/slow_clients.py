#!/usr/bin/env python3
"""How long other clients wait while slow ones attack: slowhttptest in header, body and read mode.

A client that behaves sends requests at a fixed rate, on connections that it keeps and on new ones,
first in peace and then beside each attack; every request must be answered with 200. What counts is
the ratio of its times to those in peace, taken right before each attack. Needs slowhttptest and the
release build; loopback only.

    cargo build --release && python3 benches/slow_clients.py [--connections 1000] [--seconds 15]
"""

import argparse
import http.client
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

PROGRAM = pathlib.Path(__file__).parent.parent / "target/release/moden-gateway"
ATTACKS = {
    "header": ["-H", "-t", "POST", "-i", "1"],
    "body": ["-B", "-t", "POST", "-i", "1", "-s", "8192"],
    "read": ["-X", "-t", "POST", "-n", "1", "-w", "10", "-y", "20", "-z", "5", "-k", "3"],
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(folder):
    """The simulator, and a gateway in front of it; their processes, and the gateway's port."""
    upstream, port, admin = free_port(), free_port(), free_port()
    for name, text in (("app-id", "demo-app"), ("secret", "demo-secret")):
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(text)
    (folder / "gateway.toml").write_text(f"""environment = "sandbox"
[[listeners]]
address = "127.0.0.1:{port}"
[admin]
address = "127.0.0.1:{admin}"
[access_log]
output = "{folder}/access.log"
[environments.sandbox]
base_url = "http://127.0.0.1:{upstream}/pay/sandbox"
app_id = {{ file = "{folder}/app-id" }}
secret = {{ file = "{folder}/secret" }}
""")
    def program(name, *words):
        output = open(folder / name, "wb")
        return subprocess.Popen([PROGRAM, *words], stdout=output, stderr=output)
    processes = [
        program("simulate", "simulate", "--address", f"127.0.0.1:{upstream}"),
        program("run", "run", "--config", folder / "gateway.toml"),
    ]
    deadline = time.time() + 10
    while True:
        try:
            if request(port) == 200:
                return processes, port
        except OSError:
            pass
        if time.time() > deadline:
            sys.exit((folder / "run").read_text() or "the gateway does not answer")
        time.sleep(0.05)


def request(port, kept=None):
    connection = kept or http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", "/pay/inquire/wallet")
    answer = connection.getresponse()
    answer.read()
    if not kept:
        connection.close()
    return answer.status


def behave(port, seconds, rate=50):
    """Milliseconds of requests sent at a fixed rate, measured from when each was due; and failures."""
    took, failed = [], 0
    lock = threading.Lock()

    def client(is_kept):
        nonlocal failed
        kept = http.client.HTTPConnection("127.0.0.1", port, timeout=10) if is_kept else None
        began = time.perf_counter()
        for number in range(int(seconds * rate)):
            due = began + number / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            try:
                is_good = request(port, kept) == 200
            except (OSError, http.client.HTTPException):
                is_good = False
            with lock:
                took.append((time.perf_counter() - due) * 1000)
                failed += not is_good

    threads = [threading.Thread(target=client, args=(kept,)) for kept in (True, True, False, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took.sort()
    return took, failed


def at(took, share):
    return took[min(len(took) - 1, int(len(took) * share))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=15)
    options = parser.parse_args()
    if not shutil.which("slowhttptest"):
        sys.exit("slowhttptest is missing: apt-get install slowhttptest")
    if not PROGRAM.exists():
        sys.exit("the release build is missing: cargo build --release")

    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        processes, port = start(pathlib.Path(folder))
        try:
            print(f"{options.connections} attackers; milliseconds of a client that behaves")
            print(f"{'':16}{'p50':>8}{'p99':>8}{'longest':>9}{'failed':>8}")
            for name, words in ATTACKS.items():
                for is_attack in (False, True):
                    attack = None
                    if is_attack:
                        count = str(options.connections)
                        attack = subprocess.Popen(
                            ["slowhttptest", "-c", count, "-r", count, "-l",
                             str(options.seconds + 2), "-p", "5", *words,
                             "-u", f"http://127.0.0.1:{port}/pay/inquire/wallet"],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                        time.sleep(2)
                    took, failed = behave(port, options.seconds)
                    if attack:
                        attack.terminate()
                        attack.wait()
                    failures += failed
                    label = name if is_attack else "in peace"
                    print(f"{label:16}{at(took, 0.5):8.2f}{at(took, 0.99):8.2f}{took[-1]:9.2f}"
                          f"{failed:8}")
        finally:
            for process in processes:
                process.terminate()
                process.wait()
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
