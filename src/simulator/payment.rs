//! Is this a payment that MODEN would take?

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Uri};
use serde_json::Value;

/// The longest order number in characters. Ours, not MODEN's: nothing is documented.
const SN_CHARS_MAX: usize = 128;

/// What the simulator keeps of a payment whose fields are all in order.
#[derive(Debug, PartialEq)]
pub(super) struct Payment {
    /// The merchant's order number.
    pub(super) sn: String,
    /// In the coin, above zero.
    pub(super) amount: f64,
    /// Unix seconds.
    pub(super) timestamp: i64,
}

/// Why a payment is refused.
///
/// MODEN's table of codes is not public; 10000 is the one that its examples show. The codes from
/// 10001 on are the simulator's own invention, so that a test can tell the fields apart: a client
/// must treat every code as an unknown integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PaymentError {
    /// The content is no JSON object.
    #[error("the content is not a JSON object")]
    NotAnObject,
    /// `coin` is not the string `USDT`, the only one documented.
    #[error("coin must be \"USDT\"")]
    Coin,
    /// `currency_code` is missing or empty.
    #[error("currency_code must be a string such as \"VND\" or \"USD\"")]
    CurrencyCode,
    /// `payment_provider` is there and no string.
    #[error("payment_provider must be a string if it is given")]
    PaymentProvider,
    /// `amount` is no number above zero.
    #[error("amount must be a number above 0")]
    Amount,
    /// `sn` is missing, empty or too long.
    #[error("sn must be a string of 1 to 128 characters")]
    Sn,
    /// `notify_url` is no absolute URL.
    #[error("notify_url must be an absolute http or https URL")]
    NotifyUrl,
    /// `timestamp` is no integer.
    #[error("timestamp must be an integer of Unix seconds")]
    Timestamp,
    /// The request does not say that it carries JSON.
    #[error("Content-Type must be application/json")]
    ContentType,
}

impl PaymentError {
    /// The value of `code` in the answer.
    pub(super) fn code(self) -> u32 {
        match self {
            Self::NotAnObject => 10000,
            Self::Coin => 10001,
            Self::CurrencyCode => 10002,
            Self::PaymentProvider => 10003,
            Self::Amount => 10004,
            Self::Sn => 10005,
            Self::NotifyUrl => 10006,
            Self::Timestamp => 10007,
            Self::ContentType => 10008,
        }
    }
}

/// The content of a "create payment" request, read but not checked.
pub(super) struct PaymentForm(Value);

impl PaymentForm {
    /// Reads the content; what is no JSON becomes a form that every check refuses.
    pub(super) fn read(content: &Bytes) -> Self {
        Self(serde_json::from_slice(content).unwrap_or_default())
    }

    /// The order number, if it is one, whatever else is wrong.
    pub(super) fn sn(&self) -> Option<&str> {
        self.text("sn")
            .filter(|sn| sn.chars().count() <= SN_CHARS_MAX)
    }

    /// Checks type and presence of every documented field; unknown ones are ignored.
    ///
    /// # Errors
    /// The first fault, in the order of [`PaymentError::code`].
    ///
    /// # Source
    /// MODEN help page "Create payment", 2021-03-23.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<Payment, PaymentError> {
        if !is_json(headers) {
            return Err(PaymentError::ContentType);
        }
        if !self.0.is_object() {
            return Err(PaymentError::NotAnObject);
        }
        if self.text("coin") != Some("USDT") {
            return Err(PaymentError::Coin);
        }
        if self.text("currency_code").is_none() {
            return Err(PaymentError::CurrencyCode);
        }
        if self
            .0
            .get("payment_provider")
            .is_some_and(|given| !given.is_string())
        {
            return Err(PaymentError::PaymentProvider);
        }
        let amount = self.0.get("amount").and_then(Value::as_f64);
        let amount = amount
            .filter(|amount| *amount > 0.0)
            .ok_or(PaymentError::Amount)?;
        let sn = self.sn().ok_or(PaymentError::Sn)?;
        if !self.text("notify_url").is_some_and(is_absolute_url) {
            return Err(PaymentError::NotifyUrl);
        }
        let timestamp = self.0.get("timestamp").and_then(Value::as_i64);
        let timestamp = timestamp.ok_or(PaymentError::Timestamp)?;
        Ok(Payment {
            sn: sn.to_owned(),
            amount,
            timestamp,
        })
    }

    /// A field that is a string and not empty.
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str().filter(|text| !text.is_empty())
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

fn is_absolute_url(text: &str) -> bool {
    text.parse::<Uri>().is_ok_and(|url| {
        matches!(url.scheme_str(), Some("http" | "https"))
            && url.host().is_some_and(|host| !host.is_empty())
    })
}
