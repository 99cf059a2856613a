//! Exactly one `Authorization` reaches MODEN, ours; without one nothing is forwarded.

use moden_gateway::simulator::{Fault, Times};

use crate::support::{
    AUTHORIZATION, SECRET, TestGateway, TestSimulator, eventually, payment, post, write_private,
};

/// Sends one wallet request with these field lines and returns what MODEN saw.
fn seen_by_moden(lines: &str) -> http::HeaderMap {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::before(&simulator);
    let answer = gateway.exchange(format!(
        "POST /pay/inquire/wallet HTTP/1.1\r\nHost: gateway.test\r\n{lines}\
         Content-Length: 0\r\n\r\n"
    ));
    assert_eq!(answer.status(), 200, "{lines:?}: {answer:?}");
    let requests = simulator.control().requests();
    let [request] = &requests[..] else {
        panic!("{} requests for one", requests.len());
    };
    request.headers.clone()
}

#[track_caller]
fn assert_exactly_ours(lines: &str) {
    let headers = seen_by_moden(lines);
    let values: Vec<_> = headers.get_all("authorization").iter().collect();
    assert_eq!(values, [AUTHORIZATION], "after {lines:?}");
    for (name, value) in &headers {
        let plain = name.as_str().replace(['_', '.'], "-");
        let is_ours = name == "authorization";
        assert!(is_ours || !plain.contains("authorization"), "{name} passed");
        let text = String::from_utf8_lossy(value.as_bytes());
        assert!(!text.contains("of-the-client"), "{name}: {text} passed");
    }
}

#[test]
fn adds_our_credential_where_the_client_sends_none() {
    assert_exactly_ours("");
}

#[test]
fn replaces_a_credential_of_the_clients() {
    assert_exactly_ours("Authorization: Basic of-the-client\r\n");
    assert_exactly_ours("authorization: Bearer of-the-client\r\n");
    assert_exactly_ours("AUTHORIZATION: of-the-client\r\n");
    assert_exactly_ours("Authorization:\r\n");
}

#[test]
fn replaces_several_credentials_of_the_clients() {
    assert_exactly_ours(
        "Authorization: Basic of-the-client\r\nauthorization: Basic of-the-client\r\n",
    );
}

#[test]
fn removes_what_could_pass_for_a_credential() {
    assert_exactly_ours("Proxy-Authorization: Basic of-the-client\r\n");
    assert_exactly_ours("Proxy_Authorization: Basic of-the-client\r\n");
    assert_exactly_ours("Proxy.Authorization: Basic of-the-client\r\n");
}

#[test]
fn no_client_can_have_our_credential_removed() {
    assert_exactly_ours("Connection: authorization\r\n");
    assert_exactly_ours("Connection: close, Authorization\r\n");
    assert_exactly_ours("Connection: keep-alive\r\nconnection: AUTHORIZATION\r\n");
    assert_exactly_ours("Connection: authorization\r\nAuthorization: Basic of-the-client\r\n");
}

#[test]
fn a_credential_in_a_trailer_goes_nowhere() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::before(&simulator);
    let answer = gateway.exchange(
        "POST /pay/inquire/wallet HTTP/1.1\r\nHost: gateway.test\r\n\
         Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n\
         2\r\n{}\r\n0\r\nAuthorization: Basic of-the-client\r\n\r\n",
    );
    assert_eq!(answer.status(), 200);
    let requests = simulator.control().requests();
    let values: Vec<_> = requests
        .iter()
        .flat_map(|request| request.headers.get_all("authorization"))
        .collect();
    assert_eq!(values, [AUTHORIZATION]);
}

#[test]
fn forwards_nothing_without_a_credential_and_begins_as_soon_as_there_is_one() {
    let simulator = TestSimulator::start();
    let builder = TestGateway::builder().simulator(&simulator);
    let gateway = builder.without_secret().start_until("no credential");
    assert_eq!(gateway.admin("/readyz").status(), 503);
    assert_eq!(gateway.admin("/livez").status(), 200);

    let refused = gateway.exchange(payment("order-1"));
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.code(), "credential-unavailable");
    assert_eq!(refused.outcome(), "not-sent");
    assert_eq!(refused.field("gateway-environment"), "sandbox");
    assert_eq!(
        refused.field("proxy-status"),
        "moden-gateway; error=proxy_configuration_error"
    );
    assert_eq!(simulator.control().request_count(), 0);

    write_private(&gateway.folder().join("secret"), SECRET);
    eventually("a gateway with a credential", || {
        (gateway.admin("/readyz").status() == 200).then_some(())
    });
    assert_eq!(gateway.exchange(payment("order-1")).status(), 200);
    let log = gateway.stop();
    let statuses: Vec<_> = log.iter().map(|line| line["status"].as_u64()).collect();
    assert_eq!(statuses, [Some(503), Some(200)]);
    assert_eq!(simulator.control().committed_total(), 1);
}

#[test]
fn a_rejected_credential_is_ours_to_mend_and_not_the_clients_to_see() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::before(&simulator);
    simulator
        .control()
        .set_fault(Fault::Unauthorized, Times::Next(1));

    let answer = gateway.exchange(payment("order-1"));
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.code(), "credential-rejected");
    assert_eq!(answer.outcome(), "answered");
    assert_eq!(
        answer.field("proxy-status"),
        "moden-gateway; received-status=401"
    );
    assert!(answer.all("www-authenticate").is_empty());
    let text = String::from_utf8_lossy(&answer.body);
    assert!(
        !text.contains("the credential is missing or wrong"),
        "{text}"
    );

    let log = gateway.stop();
    assert_eq!(log[0]["outcome"], "answered");
    assert_eq!(log[0]["code"], "credential-rejected");
    assert_eq!(simulator.control().committed_total(), 0);
}

#[test]
fn a_wrong_credential_is_not_tried_again_and_again() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .credential("another-app", "another-secret")
        .start();
    let answer = gateway.exchange(post("/pay/inquire/wallet", &[], ""));
    assert_eq!(answer.code(), "credential-rejected");
    assert_eq!(simulator.control().request_count(), 1);
}
