#!/usr/bin/env python3
"""Memory of the gateway with many connections: none has sent a byte, then one request each.

Figures are the resident set (VmRSS) of the release binary in front of its own simulator, each read
when it has stopped changing. Connections come from addresses of 127.0.0.0/8, a thousand from each.
With --tls the listener speaks TLS: then the first figure is of connections without a handshake.
The limits are those of docs/performance.md; a figure above one is a failure. Loopback only; wants
as many open files as connections and some more (the hard limit is used).

    cargo build --release && python3 benches/connections.py [--connections 10000] [--tls]
"""

import argparse
import pathlib
import re
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import time

PROGRAM = pathlib.Path(__file__).parent.parent / "target/release/moden-gateway"
MIB, KIB = 1024 * 1024, 1024
BODY = '{"coin":"USDT","currency_code":"VND","amount":150000,"sn":"order-%012d",' \
       '"notify_url":"https://shop.example/notify","timestamp":1700000000}'


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(folder, program, count, tls):
    """The simulator, and a gateway in front of it; their processes, and the gateway's port."""
    upstream, port, admin = free_port(), free_port(), free_port()
    for name, text in (("app-id", "demo-app"), ("secret", "demo-secret")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    table = ""
    if tls:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                        "/CN=localhost", "-keyout", folder / "key.pem", "-out",
                        folder / "certificate.pem"], check=True, stderr=subprocess.DEVNULL)
        table = f'tls = {{ certificate = "{folder}/certificate.pem", key = "{folder}/key.pem" }}'
    (folder / "gateway.toml").write_text(f"""
        environment = "sandbox"
        [[listeners]]
        address = "127.0.0.1:{port}"
        idle_timeout = "10m"
        max_connections = {count + 100}
        {table}
        [admin]
        address = "127.0.0.1:{admin}"
        [environments.sandbox]
        base_url = "http://127.0.0.1:{upstream}/pay/sandbox"
        app_id = {{ file = "{folder}/app-id" }}
        secret = {{ file = "{folder}/secret" }}
        [access_log]
        output = "{folder}/access.log"
        """)
    errors = open(folder / "stderr", "wb")
    processes = [subprocess.Popen([program, *arguments], stdout=errors, stderr=errors)
                 for arguments in (["simulate", "--address", f"127.0.0.1:{upstream}"],
                                   ["run", "--config", folder / "gateway.toml"])]
    subprocess.run([program, "wait-ready", "--config", folder / "gateway.toml"], check=True)
    return processes, port


def rss(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * KIB


def settled(process):
    """The resident set once it has not changed by more than 1 % for two seconds."""
    seen = [rss(process)]
    while len(seen) < 60:
        time.sleep(0.5)
        seen.append(rss(process))
        if len(seen) > 4 and max(seen[-5:]) - min(seen[-5:]) < seen[-1] / 100:
            break
    return seen[-1]


def connect(port, number):
    client = socket.socket()
    client.bind((f"127.1.{number // 1000}.1", 0))
    client.connect(("127.0.0.1", port))
    client.settimeout(30)
    return client


def exchange(client, number):
    body = BODY % number
    client.sendall(f"POST /pay/gateway HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json"
                   f"\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = client.recv(65536)
        if not piece:
            sys.exit(f"connection {number} ended without an answer: {answer}")
        answer += piece
    head, _, content = answer.partition(b"\r\n\r\n")
    length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
    while len(content) < length:
        content += client.recv(65536)
    if not head.startswith(b"HTTP/1.1 200"):
        sys.exit(f"connection {number}: {head.decode()}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--program", type=pathlib.Path, default=PROGRAM)
    parser.add_argument("--tls", action="store_true")
    arguments = parser.parse_args()
    count = arguments.connections
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count + 2000:
        sys.exit(f"only {hard} open files are allowed (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    with tempfile.TemporaryDirectory() as folder:
        processes, port = start(pathlib.Path(folder), arguments.program, count, arguments.tls)
        gateway = processes[-1]
        try:
            # The first request brings in what every later one shares.
            bare = settled(gateway)
            clients = [connect(port, number) for number in range(count)]
            silent = settled(gateway)
            if arguments.tls:
                context = ssl._create_unverified_context()
                clients = [context.wrap_socket(client) for client in clients]
                handshaken = settled(gateway)
            for number, client in enumerate(clients):
                exchange(client, number)
            served = settled(gateway)
            # A second request on each must find its connection open.
            for number, client in enumerate(clients):
                exchange(client, count + number)
            again = settled(gateway)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(60)

    def line(name, value, limit=None):
        each = (value - bare) / count
        verdict = "" if limit is None else f"  at most {limit / MIB:.1f}" + \
            ("" if value <= limit else "  EXCEEDED")
        print(f"{name:<28}{value / MIB:>7.1f} MiB  {each:>8.0f} B each{verdict}")
        return limit is None or value <= limit

    print(f"{count} connections")
    good = [line("none", bare), line("not a byte sent", silent, 64 * MIB)]
    if arguments.tls:
        # TLS keeps keys and buffers of its own, so that the limit of plain connections is not its.
        line("after the handshake", handshaken)
        line("after one request each", served)
    else:
        good.append(line("after one request each", served, 16 * MIB + 17 * KIB * count))
    line("after two requests each", again)
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
