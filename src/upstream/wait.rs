//! How long MODEN asks to be left alone.

use std::time::{Duration, SystemTime};

use http::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use http::{Response, StatusCode};

/// The `Retry-After` of a 429; `None` if it is missing, malformed or past.
///
/// # Source
/// RFC 9110, 10.2.3: seconds, or a date, which is compared with the answer's own `Date` or, where that
/// is missing, with the clock of this machine.
pub(super) fn asked_by<B>(answer: &Response<B>) -> Option<Duration> {
    if answer.status() != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let headers = answer.headers();
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    if is_number {
        // Any number of digits is one; what no clock can count is for ever.
        let seconds = value.parse().unwrap_or(u64::MAX);
        return (seconds > 0).then(|| Duration::from_secs(seconds));
    }
    let until = date(headers, RETRY_AFTER)?;
    let now = date(headers, DATE).unwrap_or_else(SystemTime::now);
    until
        .duration_since(now)
        .ok()
        .filter(|wait| !wait.is_zero())
}

fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(fields: &[(HeaderName, &str)]) -> Option<Duration> {
        let mut answer = Response::builder().status(StatusCode::TOO_MANY_REQUESTS);
        for (name, value) in fields {
            answer = answer.header(name, *value);
        }
        asked_by(&answer.body(()).expect("valid fields"))
    }

    #[test]
    fn reads_seconds() {
        assert_eq!(wait(&[(RETRY_AFTER, "7")]), Some(Duration::from_secs(7)));
        assert_eq!(
            wait(&[(RETRY_AFTER, "99999999999999999999")]),
            Some(Duration::from_secs(u64::MAX))
        );
        for value in ["", "0", "-1", "+5", "7.5", "soon"] {
            assert_eq!(wait(&[(RETRY_AFTER, value)]), None, "{value}");
        }
        assert_eq!(wait(&[]), None);
    }

    #[test]
    fn compares_a_date_with_the_answers_own_clock() {
        let until = "Sun, 06 Nov 1994 08:49:37 GMT";
        let at = |now| wait(&[(RETRY_AFTER, until), (DATE, now)]);
        assert_eq!(
            at("Sun, 06 Nov 1994 08:49:30 GMT"),
            Some(Duration::from_secs(7))
        );
        assert_eq!(at(until), None);
        assert_eq!(wait(&[(RETRY_AFTER, until)]), None, "that is long past");
        let in_an_hour = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3_600));
        let wait = wait(&[(RETRY_AFTER, &in_an_hour)]).expect("a date to come");
        assert!((3_590..=3_600).contains(&wait.as_secs()), "{wait:?}");
    }

    #[test]
    fn asks_nothing_of_other_answers() {
        let busy = Response::builder().status(503).header(RETRY_AFTER, "7");
        assert_eq!(asked_by(&busy.body(()).expect("valid")), None);
    }
}
