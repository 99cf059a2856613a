//! What the simulator does, seen over real sockets.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::domain::Environment;

use super::*;
use client::{Client, post};

mod api;
mod client;
mod control;
mod faults;
mod lifecycle;
mod records;

type TestResult = anyhow::Result<()>;

async fn start() -> Result<Simulator, SimulatorError> {
    Simulator::start(SimulatorOptions::default()).await
}

async fn connect(simulator: &Simulator) -> anyhow::Result<Client<TcpStream>> {
    Client::connect(simulator.address()).await
}

/// The content of a payment that is in order.
fn payment(sn: &str) -> Value {
    json!({
        "coin": "USDT",
        "currency_code": "VND",
        "payment_provider": "momo",
        "amount": 12.5,
        "sn": sn,
        "notify_url": "https://shop.example/notify",
        "timestamp": 1_700_000_000,
    })
}

/// A request that submits a payment to the sandbox.
fn submit(sn: &str, fault: Option<&str>) -> String {
    let fields: Vec<_> = fault
        .map(|fault| (FAULT_HEADER, fault))
        .into_iter()
        .collect();
    post("/pay/sandbox/gateway", &fields, &payment(sn).to_string())
}

/// How often an order of the sandbox was committed.
fn committed(simulator: &Simulator, sn: &str) -> u32 {
    let orders = simulator.control().orders(Environment::Sandbox);
    orders.get(sn).map_or(0, |order| order.committed)
}

fn is_reset(end: &io::Result<()>) -> bool {
    matches!(end, Err(error) if error.kind() == io::ErrorKind::ConnectionReset)
}

/// Waits until this many requests are on record.
async fn recorded(simulator: &Simulator, count: u64) -> anyhow::Result<Vec<RecordedRequest>> {
    let control = simulator.control();
    let waiting = async {
        while control.request_count() < count {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), waiting).await?;
    Ok(control.requests())
}
