//! What MODEN would answer.

use serde_json::{Value, json};

use super::client::{DEMO, post, request};
use super::*;

#[tokio::test]
async fn tells_the_balance_in_both_environments() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    for path in ["/pay/inquire/wallet", "/pay/sandbox/inquire/wallet"] {
        let answer = client.ask(post(path, &[], "")).await?;
        assert_eq!(answer.status, 200);
        let data = json!({ "totalAssets": 1_000_000, "coin": "USDT" });
        assert_eq!(answer.json()?, json!({ "status": "success", "data": data }));
    }
    Ok(())
}

#[tokio::test]
async fn commits_a_payment_and_counts_each_further_submission() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    for _ in 0..2 {
        let answer = client.ask(submit("A-1", None)).await?;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()?["status"], "success");
        assert!(answer.json()?["url"].is_string());
    }
    let orders = simulator.control().orders(Environment::Sandbox);
    let expected = OrderRecord {
        environment: Environment::Sandbox,
        committed: 2,
        amount: 12.5,
        timestamp: 1_700_000_000,
    };
    assert_eq!(orders.get("A-1"), Some(&expected));
    Ok(())
}

#[tokio::test]
async fn keeps_the_orders_of_the_environments_apart() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    client.ask(submit("A-1", None)).await?;
    let real = post("/pay/gateway", &[], &payment("A-1").to_string());
    client.ask(real).await?;
    let control = simulator.control();
    assert_eq!(control.orders(Environment::Sandbox)["A-1"].committed, 1);
    assert_eq!(control.orders(Environment::Production)["A-1"].committed, 1);
    assert_eq!(control.committed_total(), 2);
    Ok(())
}

#[tokio::test]
async fn refuses_each_wrong_field_with_a_code_of_its_own() -> TestResult {
    let long_sn = "x".repeat(129);
    let cases = [
        ("coin", json!("BTC"), 10001),
        ("coin", Value::Null, 10001),
        ("currency_code", json!(""), 10002),
        ("payment_provider", json!(7), 10003),
        ("amount", json!("12.5"), 10004),
        ("amount", json!(0), 10004),
        ("amount", json!(-1), 10004),
        ("sn", json!(1), 10005),
        ("sn", json!(""), 10005),
        ("sn", json!(long_sn), 10005),
        ("notify_url", json!("/notify"), 10006),
        ("notify_url", json!("ftp://shop.example/"), 10006),
        ("timestamp", json!(1.5), 10007),
        ("timestamp", json!("1700000000"), 10007),
    ];
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    for (field, value, code) in cases {
        let mut form = payment("A-1");
        form[field] = value.clone();
        let answer = client
            .ask(post("/pay/gateway", &[], &form.to_string()))
            .await?;
        assert_eq!(answer.status, 412, "{field} = {value}");
        assert_eq!(answer.json()?["status"], "fail");
        assert_eq!(answer.json()?["code"], code, "{field} = {value}");
        assert!(answer.json()?["message"].is_string());
    }
    for content in ["", "[]", "{\"sn\":", "\"sn\""] {
        let answer = client.ask(post("/pay/gateway", &[], content)).await?;
        assert_eq!(
            (answer.status, &answer.json()?["code"]),
            (412, &json!(10000))
        );
    }
    assert_eq!(simulator.control().committed_total(), 0);
    Ok(())
}

#[tokio::test]
async fn refuses_a_payment_that_lacks_a_required_field() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    for field in [
        "coin",
        "currency_code",
        "amount",
        "sn",
        "notify_url",
        "timestamp",
    ] {
        let mut form = payment("A-1");
        form.as_object_mut().expect("it is one").remove(field);
        let answer = client
            .ask(post("/pay/gateway", &[], &form.to_string()))
            .await?;
        assert_eq!(answer.status, 412, "{field}");
    }
    let mut form = payment("A-1");
    form.as_object_mut()
        .expect("it is one")
        .remove("payment_provider");
    let answer = client
        .ask(post("/pay/gateway", &[], &form.to_string()))
        .await?;
    assert_eq!(answer.status, 200);
    Ok(())
}

#[tokio::test]
async fn refuses_a_payment_that_does_not_say_it_is_json() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    let content = payment("A-1").to_string();
    let length = content.len().to_string();
    let fields = [("authorization", DEMO), ("content-length", &length)];
    let answer = client
        .ask(request("POST", "/pay/gateway", &fields, &content))
        .await?;
    assert_eq!(
        (answer.status, &answer.json()?["code"]),
        (412, &json!(10008))
    );
    Ok(())
}

#[tokio::test]
async fn refuses_every_credential_but_exactly_one_right_one() -> TestResult {
    let bare_secret = "Basic ZGVtby1zZWNyZXQ=";
    let longer = format!("{DEMO}A");
    let refused: [&[&str]; 6] = [
        &[],
        &[bare_secret],
        &["Bearer demo-secret"],
        &[&longer],
        &["Basic"],
        &[DEMO, DEMO],
    ];
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    let content = payment("A-1").to_string();
    let length = content.len().to_string();
    for credentials in refused {
        let mut fields = vec![
            ("content-type", "application/json"),
            ("content-length", &length),
        ];
        fields.extend(credentials.iter().map(|value| ("authorization", *value)));
        let answer = client
            .ask(request("POST", "/pay/gateway", &fields, &content))
            .await?;
        assert_eq!(answer.status, 401, "{credentials:?}");
        assert_eq!(answer.json()?["code"], 10401);
        assert!(answer.head.contains("www-authenticate: Basic"));
    }
    assert_eq!(simulator.control().committed_total(), 0);
    Ok(())
}

#[tokio::test]
async fn accepts_only_the_new_credential_once_it_was_replaced() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    simulator.control().accept_only("demo-app", &"new".into())?;
    assert_eq!(client.ask(submit("A-1", None)).await?.status, 401);
    simulator
        .control()
        .accept_only("demo-app", &DEMO_SECRET.into())?;
    assert_eq!(client.ask(submit("A-1", None)).await?.status, 200);
    let refused = simulator.control().accept_only("a:b", &"new".into());
    assert!(matches!(refused, Err(SimulatorError::AppIdInvalid)));
    assert_eq!(client.ask(submit("A-1", None)).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn knows_only_its_endpoints_and_only_by_their_exact_bytes() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    let unknown = [
        "/pay/refund",
        "/pay/Gateway",
        "/pay/gateway/",
        "/pay/sandbox",
        "/pay/sandbox/sandbox/gateway",
        "/pay/s%61ndbox/gateway",
        "/pay//gateway",
        "/gateway",
    ];
    for path in unknown {
        let answer = client
            .ask(post(path, &[], &payment("A-1").to_string()))
            .await?;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json()?["status"], "fail");
    }
    assert_eq!(simulator.control().committed_total(), 0);
    let records = simulator.control().requests();
    let paths: Vec<_> = records.iter().map(|record| record.path.as_str()).collect();
    assert_eq!(paths, unknown);
    assert_eq!(records[3].environment, Some(Environment::Production));
    assert_eq!(records[4].environment, Some(Environment::Sandbox));
    assert_eq!(records[7].environment, None);
    Ok(())
}

#[tokio::test]
async fn takes_nothing_but_post() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    for path in ["/pay/gateway", "/pay/sandbox/inquire/wallet"] {
        let answer = client
            .ask(request("GET", path, &[("authorization", DEMO)], ""))
            .await?;
        assert_eq!(answer.status, 405);
        assert!(answer.head.contains("allow: POST\r\n"), "{}", answer.head);
    }
    Ok(())
}

#[tokio::test]
async fn echoes_names_of_fields_but_never_a_value() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    let fields = [("x-shop", "value-of-shop")];
    let answer = client
        .ask(post("/pay/sandbox/echo/a/b?c=d", &fields, "12345"))
        .await?;
    let expected = json!({
        "status": "success",
        "method": "POST",
        "path": "/pay/sandbox/echo/a/b?c=d",
        "body_length": 5,
        "header_names": ["authorization", "content-length", "content-type", "host", "x-shop"],
    });
    assert_eq!(answer.json()?, expected);
    let text = String::from_utf8(answer.content)?;
    assert!(!text.contains("value-of-shop") && !text.contains("ZGVtby"));
    Ok(())
}

#[tokio::test]
async fn answers_413_to_a_body_over_one_mebibyte() -> TestResult {
    let simulator = start().await?;
    let content = "x".repeat(1024 * 1024 + 1);
    let announced = connect(&simulator)
        .await?
        .ask(post("/pay/echo/", &[], &content))
        .await?;
    assert_eq!(announced.status, 413);

    let fields = [("authorization", DEMO), ("transfer-encoding", "chunked")];
    let chunked = format!("{:x}\r\n{content}\r\n0\r\n\r\n", content.len());
    let mut client = connect(&simulator).await?;
    let counted = client
        .ask(request("POST", "/pay/echo/", &fields, &chunked))
        .await?;
    assert_eq!(counted.status, 413);

    let most = "x".repeat(1024 * 1024);
    let answer = connect(&simulator)
        .await?
        .ask(post("/pay/echo/", &[], &most))
        .await?;
    assert_eq!(answer.json()?["body_length"], 1024 * 1024);
    Ok(())
}

#[tokio::test]
async fn lets_a_client_go_on_sending_after_its_body_was_refused() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    let fields = [("authorization", DEMO), ("content-length", "9000000")];
    let head = request("POST", "/pay/echo/", &fields, "");
    assert_eq!(client.ask(head).await?.status, 413);
    let (content, end) = client.rest().await?;
    assert_eq!(content, b"");
    assert!(end.is_ok(), "{end:?}");
    // A socket that was closed instead of shut down answers the first bytes with a reset, and the
    // next ones find it.
    client.send([0; 1000]).await?;
    client.send([0; 1000]).await?;
    Ok(())
}

#[tokio::test]
async fn answers_503_to_a_new_order_when_its_memory_is_full() -> TestResult {
    let options = SimulatorOptions {
        order_limit: 1,
        ..SimulatorOptions::default()
    };
    let simulator = Simulator::start(options).await?;
    let mut client = connect(&simulator).await?;
    assert_eq!(client.ask(submit("A-1", None)).await?.status, 200);
    assert_eq!(client.ask(submit("A-2", None)).await?.status, 503);
    assert_eq!(client.ask(submit("A-1", None)).await?.status, 200);
    assert_eq!(
        (committed(&simulator, "A-1"), committed(&simulator, "A-2")),
        (2, 0)
    );
    Ok(())
}
