//! Named limits in layers; a denial costs nothing in any of them, says when to come
//! again, and is on record with the name of its policy.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use moden_gateway::simulator::{Fault, Times};
use serde_json::Value;

use crate::support::{
    Client, TestGateway, TestSimulator, alone, eventually, in_parallel, payment, post,
};

/// A period in which nothing comes back while a test runs.
const HOUR: &str = "period = \"1h\"";

fn gateway(simulator: &TestSimulator, limits: &str) -> TestGateway {
    let builder = TestGateway::builder().simulator(simulator);
    builder.tables(limits).start()
}

fn inquiry() -> Vec<u8> {
    post("/pay/inquire/wallet", &[], "")
}

fn lines_with(lines: &[Value], field: &str, value: &str) -> usize {
    lines.iter().filter(|line| line[field] == value).count()
}

/// How many requests a policy has denied, as `/metrics` tells it.
fn denied_by(gateway: &TestGateway, policy: &str) -> u64 {
    let metrics = gateway.admin("/metrics").body;
    let text = String::from_utf8(metrics).expect("metrics are text");
    let line = text
        .lines()
        .filter(|line| line.starts_with("gateway_limits_denied_total{"))
        .find(|line| line.contains(&format!("policy=\"{policy}\"")));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value.map_or(0, |value| value.parse().expect("a count"))
}

#[test]
fn a_denial_names_its_policy_and_says_when_to_come_again() {
    let simulator = TestSimulator::start();
    let limits = format!("[[limits]]\nname = \"hourly\"\nrequests = 2\n{HOUR}");
    let gateway = gateway(&simulator, &limits);
    for remaining in ["\"hourly\";r=1;t=1800", "\"hourly\";r=0;t=1800"] {
        let answer = gateway.exchange(payment("a"));
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.field("ratelimit"), remaining);
        assert_eq!(answer.field("ratelimit-policy"), "\"hourly\";q=2;w=3600");
    }
    let denial = gateway.exchange(post("/pay/gateway", &[("X-Request-Id", "third")], "{}"));
    assert_eq!(denial.status(), 429);
    assert_eq!(denial.outcome(), "not-sent");
    let wait: u64 = denial.field("retry-after").parse().expect("seconds");
    assert!((1_790..=1_800).contains(&wait), "{wait}");
    assert_eq!(
        denial.field("ratelimit"),
        format!("\"hourly\";r=0;t={wait}")
    );
    assert_eq!(denial.field("ratelimit-policy"), "\"hourly\";q=2;w=3600");
    assert_eq!(
        denial.field("proxy-status"),
        "moden-gateway; error=http_request_denied"
    );
    insta::assert_snapshot!(serde_json::to_string_pretty(&denial.json()).expect("JSON"));

    let lines = gateway.stop();
    assert_eq!(simulator.control().request_count(), 2);
    // Each core has a buffer of its own, so lines need not come in the order of their requests.
    let (third, others): (Vec<_>, Vec<_>) =
        lines.iter().partition(|line| line["request_id"] == "third");
    let [third] = third[..] else {
        panic!("{lines:?}");
    };
    assert_eq!(third["limit"], "hourly");
    assert_eq!(third["code"], "limit-exceeded");
    assert_eq!(third["outcome"], "not-sent");
    assert!(others.iter().all(|line| line.get("limit").is_none()));
}

#[test]
fn an_error_behind_the_limits_tells_what_is_left_too() {
    let limits = format!("[[limits]]\nname = \"hourly\"\nrequests = 2\n{HOUR}");
    let simulator = TestSimulator::start();
    let gateway = gateway(&simulator, &limits);
    simulator
        .control()
        .set_fault(Fault::LostAfterCommit, Times::Next(1));
    let lost = gateway.exchange(payment("a"));
    assert_eq!((lost.status(), lost.outcome()), (502, "unknown"));
    assert_eq!(lost.field("ratelimit"), "\"hourly\";r=1;t=1800");
    let nowhere = gateway.exchange(post("/elsewhere", &[], ""));
    assert_eq!(nowhere.status(), 404);
    assert!(nowhere.all("ratelimit").is_empty(), "no policy applied");
}

/// What a request needs room in: an address of the loopback network, and one of two routes.
type Wanted = (u8, bool);

/// The ten-line model: how many of these requests are admitted by a cap for all, one for each
/// address and one for each route.
fn model(requests: &[Wanted], caps: [u32; 3]) -> u32 {
    let (mut all, mut addresses, mut routes) = (0, [0; 256], [0; 2]);
    for (address, is_payment) in requests {
        let address = &mut addresses[usize::from(*address)];
        let route = &mut routes[usize::from(*is_payment)];
        if all < caps[0] && *address < caps[1] && *route < caps[2] {
            all += 1;
            *address += 1;
            *route += 1;
        }
    }
    all
}

#[test]
fn three_layers_admit_what_the_model_says_under_64_clients() {
    let _alone = alone();
    // Each case is bound by another layer, however the clients interleave.
    for (caps, bound) in [
        ([300, 200, 600], 300),
        ([900, 90, 900], 720),
        ([900, 400, 250], 500),
    ] {
        let simulator = TestSimulator::start();
        let [all, address, route] = caps;
        let gateway = gateway(
            &simulator,
            &format!(
                "[[limits]]\nname = \"gateway\"\nrequests = {all}\n{HOUR}\n\
                 [[limits]]\nname = \"address\"\nper = [\"client_ip\"]\nrequests = {address}\n{HOUR}\n\
                 [[limits]]\nname = \"route\"\nper = [\"route\"]\nrequests = {route}\n{HOUR}\n"
            ),
        );
        let clients = 64;
        let wanted: Vec<Wanted> = (0..clients * 20)
            .map(|number| (number as u8 % 8 + 1, (number / 8) % 2 == 0))
            .collect();
        let expected = model(&wanted, caps);
        assert_eq!(expected, bound);

        let admitted: u32 = in_parallel(clients, clients, |client| {
            let of_client = wanted.iter().skip(client).step_by(clients);
            let source = Ipv4Addr::new(127, 0, 1, client as u8 % 8 + 1);
            let mut connection = Client::connect_from(source, gateway.address());
            of_client
                .map(|(_, is_payment)| {
                    let answer = match is_payment {
                        true => connection.exchange(payment("a")),
                        false => connection.exchange(inquiry()),
                    };
                    assert!(matches!(answer.status(), 200 | 429), "{answer:?}");
                    u32::from(answer.status() == 200)
                })
                .sum::<u32>()
        })
        .into_iter()
        .sum();
        // Never more; a few less where a denial lost a race and nobody came after it.
        assert!(admitted <= expected, "{admitted} of {expected}");
        assert!(admitted * 100 >= expected * 99, "{admitted} of {expected}");

        let denied: u64 = ["gateway", "address", "route"]
            .map(|name| denied_by(&gateway, name))
            .iter()
            .sum();
        let lines = gateway.stop();
        let refused: Vec<_> = lines.iter().filter(|line| line["status"] == 429).collect();
        assert_eq!(refused.len() as u32, clients as u32 * 20 - admitted);
        assert_eq!(refused.len() as u64, denied);
        let names = ["gateway", "address", "route"];
        assert!(
            refused
                .iter()
                .all(|line| names.iter().any(|name| line["limit"] == *name)),
            "a refused request has the name of its policy in its line"
        );
        assert_eq!(simulator.control().request_count(), u64::from(admitted));
    }
}

#[test]
fn a_rate_admits_its_burst_and_then_exactly_its_rate() {
    let _alone = alone();
    let simulator = TestSimulator::start();
    let gateway = gateway(
        &simulator,
        "[[limits]]\nname = \"gateway\"\nrequests = 100\nburst = 20\n",
    );
    // Four times what is admitted, from four connections, for as long as the issue of time is
    // decided: each asks every ten milliseconds.
    let (admitted, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut connection = gateway.connect();
                while !is_over.load(Ordering::Relaxed) {
                    let next = Instant::now() + Duration::from_millis(10);
                    if connection.exchange(inquiry()).status() == 200 {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            });
        }
        std::thread::sleep(Duration::from_secs(10));
        is_over.store(true, Ordering::Relaxed);
    });
    let seconds = began.elapsed().as_secs_f64();
    let expected = 20.0 + 100.0 * seconds;
    let ratio = f64::from(admitted.into_inner()) / expected;
    assert!((0.98..=1.001).contains(&ratio), "{ratio} of {expected}");
}

#[test]
fn observing_denies_none_and_counts_the_same() {
    let simulator = TestSimulator::start();
    let counts = ["enforce", "observe"].map(|mode| {
        let limits =
            format!("[[limits]]\nname = \"hourly\"\nrequests = 30\n{HOUR}\nmode = \"{mode}\"");
        let gateway = gateway(&simulator, &limits);
        let mut connection = gateway.connect();
        let admitted = (0..100)
            .filter(|_| connection.exchange(inquiry()).status() == 200)
            .count();
        drop(connection);
        let denied = denied_by(&gateway, "hourly");
        let lines = gateway.stop();
        let marked = lines_with(&lines, "limit", "hourly");
        let observed = lines_with(&lines, "limit_observed", "hourly");
        (admitted, marked, observed, denied)
    });
    assert_eq!(counts, [(30, 70, 0, 70), (100, 0, 70, 70)]);
}

#[test]
fn concurrency_counts_an_exchange_until_it_ends_even_if_its_client_left() {
    let simulator = TestSimulator::start();
    let limits = "[[limits]]\nname = \"at-once\"\nconcurrency = 2\n";
    let gateway = gateway(&simulator, limits);
    let slow = Fault::Delay(Duration::from_secs(2));
    simulator.control().set_fault(slow, Times::Next(2));
    let mut stays = gateway.connect();
    stays.begin(payment("stays"));
    let mut leaves = gateway.connect();
    leaves.begin(payment("leaves"));
    eventually("both requests at the simulator", || {
        (simulator.control().request_count() == 2).then_some(())
    });
    leaves.reset();
    let denied = gateway.exchange(inquiry());
    assert_eq!(denied.status(), 429);
    assert_eq!(denied.field("retry-after"), "1");
    assert_eq!(denied.field("ratelimit"), "\"at-once\";r=0");
    assert_eq!(
        denied.field("ratelimit-policy"),
        "\"at-once\";q=2;qu=\"concurrent-requests\""
    );
    assert_eq!(stays.answer().status(), 200);
    eventually("room again", || {
        (gateway.exchange(inquiry()).status() == 200).then_some(())
    });
    let lines = gateway.stop();
    assert_eq!(lines_with(&lines, "outcome", "unknown"), 0);
}

#[test]
fn what_moden_limits_is_left_alone_by_everybody_until_it_said() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::before(&simulator);
    let fault = Fault::TooManyRequests {
        retry_after: Some(2),
    };
    simulator.control().set_fault(fault, Times::Next(1));
    let met = gateway.exchange(payment("a"));
    assert_eq!((met.status(), met.outcome()), (429, "answered"));
    assert_eq!(met.field("retry-after"), "2");
    assert_ne!(met.field("content-type"), "application/problem+json");

    let held = gateway.exchange(payment("b"));
    assert_eq!((held.status(), held.outcome()), (429, "not-sent"));
    assert_eq!(held.code(), "limit-exceeded");
    assert!(matches!(held.field("retry-after"), "1" | "2"), "{held:?}");
    assert!(
        held.all("ratelimit").is_empty(),
        "nobody knows MODEN's quota"
    );
    assert_eq!(held.json()["violated-policies"][0], "upstream-limit");
    assert_eq!(simulator.control().request_count(), 1);

    eventually("MODEN's time to pass", || {
        (gateway.exchange(payment("c")).status() == 200).then_some(())
    });
    let lines = gateway.stop();
    assert_eq!(lines[0]["code"], Value::Null);
    assert_eq!(lines[1]["limit"], "upstream-limit");
}

#[test]
fn nobody_waits_for_moden_longer_than_configured() {
    let simulator = TestSimulator::start();
    let first_after = |limit_max: &str| {
        let builder = TestGateway::builder().simulator(&simulator);
        let gateway = builder
            .upstream(&format!("limit_max = \"{limit_max}\""))
            .start();
        let hour = Fault::TooManyRequests {
            retry_after: Some(3_600),
        };
        simulator.control().set_fault(hour, Times::Next(1));
        assert_eq!(gateway.exchange(inquiry()).field("retry-after"), "3600");
        let next = gateway.exchange(inquiry());
        eventually("the cap to pass", || {
            (gateway.exchange(inquiry()).status() == 200).then_some(())
        });
        next.status()
    };
    assert_eq!(first_after("1s"), 429);
    assert_eq!(first_after("0s"), 200);
}
