//! Inputs that are what an upstream answers: which bytes come for which request.

use http::Method;

/// What stands before the method that the bytes behind its line answer.
pub(super) const ASKED: &[u8] = b"> ";

/// A request, and what comes back for it before the next is sent.
#[derive(Debug)]
pub(super) struct Exchange<'d> {
    /// Never CONNECT, which would make a tunnel of the connection and is never sent.
    pub(super) method: Method,
    pub(super) bytes: &'d [u8],
}

/// Splits at each line `> METHOD`.
pub(super) fn exchanges(data: &[u8]) -> Vec<Exchange<'_>> {
    let mut exchanges = Vec::new();
    let mut rest = data;
    while let Some(begun) = rest.strip_prefix(ASKED) {
        let end = begun.iter().position(|byte| *byte == b'\n');
        let (line, behind) = begun.split_at(end.unwrap_or(begun.len()));
        let behind = behind.get(1..).unwrap_or_default();
        let next = behind.windows(3).position(|window| window == b"\n> ");
        let (bytes, after) = behind.split_at(next.unwrap_or(behind.len()));
        match Method::from_bytes(line) {
            Ok(method) if method != Method::CONNECT => exchanges.push(Exchange { method, bytes }),
            _ => break,
        }
        rest = after.get(1..).unwrap_or_default();
    }
    exchanges
}
