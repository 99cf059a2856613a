//! Steering over HTTP, and who may.

use serde_json::json;

use super::client::{post, request};
use super::*;

#[tokio::test]
async fn takes_rules_over_http_and_forgets_them() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    let rules = [
        r#"{"fault":"500"}"#,
        r#"{"fault":"429=3","times":{"next":1}}"#,
        r#"{"fault":"401","times":"always"}"#,
    ];
    for rule in rules {
        assert_eq!(
            client
                .ask(post("/simulator/faults", &[], rule))
                .await?
                .status,
            204
        );
    }
    for status in [500, 429, 401, 401] {
        assert_eq!(client.ask(submit("A-1", None)).await?.status, status);
    }
    let forget = request("DELETE", "/simulator/faults", &[], "");
    assert_eq!(client.ask(forget).await?.status, 204);
    assert_eq!(client.ask(submit("A-1", None)).await?.status, 200);
    assert_eq!(simulator.control().request_count(), 5);
    Ok(())
}

#[tokio::test]
async fn refuses_rules_that_it_cannot_read() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    let rules = [
        "",
        "{}",
        r#"{"fault":"x"}"#,
        r#"{"fault":"500","when":"now"}"#,
    ];
    for rule in rules {
        assert_eq!(
            client
                .ask(post("/simulator/faults", &[], rule))
                .await?
                .status,
            400
        );
    }
    assert_eq!(client.ask(submit("A-1", None)).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn shows_requests_and_orders_over_http() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    for sn in ["A-1", "A-2", "A-1"] {
        client.ask(submit(sn, None)).await?;
    }
    let orders = client
        .ask(request("GET", "/simulator/orders", &[], ""))
        .await?
        .json()?;
    let line = |sn, committed| {
        json!({
            "sn": sn,
            "environment": "sandbox",
            "committed": committed,
            "amount": 12.5,
            "timestamp": 1_700_000_000,
        })
    };
    let expected = json!({
        "committed_total": 3,
        "count": 2,
        "committed_more_than_once": 1,
        "orders": [line("A-1", 2), line("A-2", 1)],
    });
    assert_eq!(orders, expected);

    let answer = client
        .ask(request("GET", "/simulator/requests?last=2", &[], ""))
        .await?;
    assert!(!String::from_utf8_lossy(&answer.content).contains("ZGVtby"));
    let answer = answer.json()?;
    assert_eq!(answer["count"], 3);
    assert_eq!(answer["requests"].as_array().map(Vec::len), Some(2));
    assert_eq!(answer["requests"][0]["sn"], "A-2");
    assert_eq!(answer["requests"][1]["method"], "POST");
    assert_eq!(
        answer["requests"][1]["headers"][1],
        json!(["authorization", "(not shown)"])
    );
    Ok(())
}

#[tokio::test]
async fn lets_only_known_hosts_and_no_web_page_control_it() -> TestResult {
    let options = SimulatorOptions {
        control_hosts: vec!["simulator".to_owned()],
        ..SimulatorOptions::default()
    };
    let simulator = Simulator::start(options).await?;
    let cases = [
        ("host: localhost:8080", 200),
        ("host: 127.0.0.1", 200),
        ("host: [::1]:9", 200),
        ("host: Simulator:80", 200),
        ("host: evil.example", 403),
        ("host: localhost.evil.example", 403),
        ("host: 192.0.2.1", 403),
        ("host: localhost\r\nhost: localhost", 403),
        ("host: localhost\r\norigin: https://evil.example", 403),
    ];
    for (lines, status) in cases {
        let bytes = format!("GET /simulator/orders HTTP/1.1\r\n{lines}\r\n\r\n");
        let answer = connect(&simulator).await?.ask(bytes).await?;
        assert_eq!(answer.status, status, "{lines}");
    }
    assert_eq!(simulator.control().request_count(), 0);
    Ok(())
}

#[tokio::test]
async fn says_which_methods_control_takes() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    let faults = client
        .ask(request("GET", "/simulator/faults", &[], ""))
        .await?;
    assert_eq!(faults.status, 405);
    assert!(
        faults.head.contains("allow: POST, DELETE\r\n"),
        "{}",
        faults.head
    );
    let orders = client
        .ask(request("DELETE", "/simulator/orders", &[], ""))
        .await?;
    assert_eq!(orders.status, 405);
    assert_eq!(
        client
            .ask(request("GET", "/simulator/", &[], ""))
            .await?
            .status,
        404
    );
    Ok(())
}
