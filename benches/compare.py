#!/usr/bin/env python3
"""CPU per request of moden-gateway, nginx and HAProxy on the same work, in interleaved rounds.

The work: drop the client's Authorization, inject Basic, forward over pooled keep-alive connections
to an upstream with TLS 1.3 whose certificate is verified, add a request id, write one JSON line
per request to a file. Every proxy has one core; load generator and upstream share another. The
upstream answers 200 only to the injected credential, and after every round each proxy must have
answered everything with 200 and logged as many lines, or the round is void and the script fails.

No limiter runs in any of them. Needs nginx, haproxy, wrk, openssl and taskset; loopback only.

    cargo build --release && python3 benches/compare.py [--rounds 8] [--seconds 3]
"""

import argparse
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

CREDENTIAL = "Basic YXBwOnNlY3JldA=="  # app:secret
BODY = '{"coin":"USDT","currency_code":"VND","amount":150000,"sn":"order-000000000001",' \
       '"notify_url":"https://shop.example/payments/notify","payment_provider":"bank-transfer",' \
       '"timestamp":1700000000}'
ANSWER = '{"status":"success","url":"https://pay.example/p/0123456789abcdef0123456789abcdef0123"}'
PROXY_CORE, OTHER_CORE = "0", "1"
CONNECTIONS = 64


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def certificates(folder):
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-keyout", f"{folder}/ca.key", "-out", f"{folder}/ca.pem", "-days", "2",
        "-subj", "/CN=comparison CA")
    run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-keyout", f"{folder}/leaf.key", "-out", f"{folder}/leaf.csr", "-subj", "/CN=localhost")
    (folder / "san").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    run("openssl", "x509", "-req", "-in", f"{folder}/leaf.csr", "-CA", f"{folder}/ca.pem",
        "-CAkey", f"{folder}/ca.key", "-CAcreateserial", "-days", "2", "-out",
        f"{folder}/leaf.pem", "-extfile", f"{folder}/san")


class Program:
    """A process pinned to a core, and the children it started."""

    def __init__(self, name, core, command, folder, output=None):
        self.name = name
        sink = open(output, "wb") if output else open(folder / f"{name}.out", "wb")
        self.process = subprocess.Popen(["taskset", "-c", core, *command], stdout=sink,
                                        stderr=open(folder / f"{name}.err", "wb"))

    def pids(self):
        children = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True,
                                  text=True).stdout.split()
        return [str(self.process.pid), *children]

    def cpu_seconds(self):
        ticks = 0
        for pid in self.pids():
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def rss_kib(self):
        return sum(int(re.search(r"VmRSS:\s+(\d+)", status)[1]) for status in
                   (pathlib.Path(f"/proc/{pid}/status").read_text() for pid in self.pids()))

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


def upstream(folder, port):
    (folder / "upstream.conf").write_text(f"""
        daemon off; worker_processes 1; pid {folder}/upstream.pid; error_log {folder}/upstream.log;
        events {{ worker_connections 4096; }}
        http {{
          access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}/ub;
          proxy_temp_path {folder}/up; fastcgi_temp_path {folder}/uf; uwsgi_temp_path {folder}/uu;
          scgi_temp_path {folder}/us;
          server {{
            listen 127.0.0.1:{port} ssl backlog=4096; ssl_protocols TLSv1.3;
            ssl_certificate {folder}/leaf.pem; ssl_certificate_key {folder}/leaf.key;
            default_type application/json;
            location / {{
              if ($http_authorization != "{CREDENTIAL}") {{ return 401; }}
              return 200 '{ANSWER}';
            }}
          }}
        }}""")
    return Program("upstream", OTHER_CORE, ["nginx", "-c", f"{folder}/upstream.conf"], folder)


def nginx(folder, port, upstream_port):
    (folder / "nginx.conf").write_text(f"""
        daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
        events {{ worker_connections 4096; }}
        http {{
          client_body_temp_path {folder}/nb; proxy_temp_path {folder}/np;
          fastcgi_temp_path {folder}/nf; uwsgi_temp_path {folder}/nu; scgi_temp_path {folder}/ns;
          keepalive_requests 1000000000;
          log_format line escape=json '{{"ts":"$time_iso8601","request_id":"$request_id",'
            '"peer":"$remote_addr:$remote_port","method":"$request_method","path":"$uri",'
            '"status":$status,"duration":$request_time,"upstream":"$upstream_response_time",'
            '"bytes_in":$request_length,"bytes_out":$bytes_sent}}';
          access_log {folder}/nginx.access line buffer=64k flush=1s;
          upstream moden {{ server 127.0.0.1:{upstream_port}; keepalive 256;
                            keepalive_requests 1000000000; }}
          server {{
            listen 127.0.0.1:{port} backlog=4096;
            location /pay/ {{
              proxy_pass https://moden/pay/sandbox/; proxy_http_version 1.1;
              proxy_set_header Connection ""; proxy_set_header Host localhost;
              proxy_set_header Authorization "{CREDENTIAL}";
              proxy_set_header X-Request-Id $request_id;
              proxy_ssl_verify on; proxy_ssl_trusted_certificate {folder}/ca.pem;
              proxy_ssl_name localhost; proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3;
            }}
          }}
        }}""")
    program = Program("nginx", PROXY_CORE, ["nginx", "-c", f"{folder}/nginx.conf"], folder)
    return program, folder / "nginx.access"


def haproxy(folder, port, upstream_port):
    (folder / "haproxy.cfg").write_text(f"""
global
  nbthread 1
  maxconn 4096
  log stdout format raw local0
defaults
  mode http
  timeout connect 3s
  timeout client 60s
  timeout server 30s
  log global
  retries 0
frontend in
  bind 127.0.0.1:{port} backlog 4096
  unique-id-format %[uuid()]
  log-format '{{"ts":"%tr","request_id":"%ID","peer":"%ci:%cp","method":"%HM","path":"%HP","status":%ST,"duration":%Ta,"upstream":%Tr,"bytes_in":%U,"bytes_out":%B}}'
  default_backend moden
backend moden
  http-reuse always
  http-request del-header Authorization
  http-request set-header Authorization "{CREDENTIAL}"
  http-request set-header X-Request-Id %[unique-id]
  http-request set-header Host localhost
  http-request replace-path /pay/(.*) /pay/sandbox/\\1
  server moden 127.0.0.1:{upstream_port} ssl verify required ca-file {folder}/ca.pem sni str(localhost) verifyhost localhost ssl-min-ver TLSv1.3 pool-max-conn 256
""")
    log = folder / "haproxy.access"
    command = ["haproxy", "-db", "-f", f"{folder}/haproxy.cfg"]
    return Program("haproxy", PROXY_CORE, command, folder, log), log


def gateway(folder, port, upstream_port, binary):
    for name, content in [("app-id", "app\n"), ("secret", "secret\n")]:
        (folder / name).write_text(content)
        (folder / name).chmod(0o600)
    (folder / "gateway.toml").write_text(f"""
        environment = "sandbox"
        [server]
        threads = 1
        [[listeners]]
        address = "127.0.0.1:{port}"
        [admin]
        address = "127.0.0.1:{free_port()}"
        [environments.sandbox]
        base_url = "https://localhost:{upstream_port}/pay/sandbox"
        app_id = {{ file = "{folder}/app-id" }}
        secret = {{ file = "{folder}/secret" }}
        [upstream]
        ca_file = "{folder}/ca.pem"
        [access_log]
        output = "{folder}/gateway.access"
        """)
    command = [str(binary), "run", "--config", f"{folder}/gateway.toml"]
    return Program("moden-gateway", PROXY_CORE, command, folder), folder / "gateway.access"


def lines(path):
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def wait_ready(port):
    deadline = time.monotonic() + 10
    while True:
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/pay/gateway",
                                             data=BODY.encode(), method="POST")
            with urllib.request.urlopen(request, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        if time.monotonic() > deadline:
            sys.exit(f"nothing answers 200 on port {port}")
        time.sleep(0.05)


def load(port, seconds, script):
    output = subprocess.run(
        ["taskset", "-c", OTHER_CORE, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s",
         "--latency", "-s", str(script), f"http://127.0.0.1:{port}/pay/gateway"],
        check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        sys.exit(f"a void round:\n{output}")
    return int(re.search(r"(\d+) requests in", output)[1]), \
        re.search(r"99%\s+(\S+)", output)[1]


def settled_lines(path):
    """The number of lines once nobody adds any."""
    count = lines(path)
    while True:
        time.sleep(1.2)
        again = lines(path)
        if again == count:
            return count
        count = again


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--binary", default="target/release/moden-gateway", type=pathlib.Path)
    arguments = parser.parse_args()
    for tool in ["nginx", "haproxy", "wrk", "openssl", "taskset"]:
        if not shutil.which(tool):
            sys.exit(f"{tool} is missing; on Debian: apt-get install nginx haproxy wrk openssl "
                     "util-linux")
    programs = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        certificates(folder)
        script = folder / "post.lua"
        script.write_text(f"wrk.method='POST'\nwrk.body='{BODY}'\n"
                          "wrk.headers['Content-Type']='application/json'\n"
                          "wrk.headers['Authorization']='Bearer of-the-client'\n")
        try:
            upstream_port = free_port()
            programs.append(upstream(folder, upstream_port))
            peers = []
            for start in [nginx, haproxy, gateway]:
                port = free_port()
                extra = [arguments.binary.resolve()] if start is gateway else []
                program, log = start(folder, port, upstream_port, *extra)
                programs.append(program)
                wait_ready(port)
                peers.append((program, port, log, program.rss_kib()))
            costs = {program.name: [] for program, *_ in peers}
            for number in range(arguments.rounds):
                for program, port, log, _ in peers:
                    before, cpu = settled_lines(log), program.cpu_seconds()
                    requests, p99 = load(port, arguments.seconds, script)
                    cpu = program.cpu_seconds() - cpu
                    logged = settled_lines(log) - before
                    # wrk does not count what was in flight when its time was up.
                    if not requests <= logged <= requests + CONNECTIONS:
                        sys.exit(f"{program.name}: {requests} requests, {logged} lines")
                    costs[program.name].append(cpu / requests * 1e6)
                    print(f"round {number + 1} {program.name:14} {cpu / requests * 1e6:6.2f} µs "
                          f"of CPU a request, {requests / arguments.seconds:8.0f}/s, p99 {p99}",
                          flush=True)
            print(f"\n{'':14} lower quartile, µs   median of ratios to nginx   RSS MiB")
            for program, _, _, start_kib in peers:
                cost = costs[program.name]
                ratios = [ours / theirs for ours, theirs in zip(cost, costs["nginx"])]
                print(f"{program.name:14} {statistics.quantiles(cost, n=4)[0]:19.2f} "
                      f"{statistics.median(ratios):27.2f}   "
                      f"{start_kib / 1024:.1f} -> {program.rss_kib() / 1024:.1f}")
        finally:
            for program in reversed(programs):
                program.stop()


if __name__ == "__main__":
    main()
