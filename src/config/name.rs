//! Names that the operator gives to routes and policies.

use super::Expected;

const LONGEST_NAME_BYTES: usize = 64;

/// Checks a name that becomes a label and a log field; `reserved` has a meaning of its own there.
///
/// # Errors
/// What a name is made of, or `is_reserved`, which says what the reserved one stands for.
pub(super) fn parse(
    name: String,
    reserved: &str,
    is_reserved: Expected,
) -> Result<String, Expected> {
    let is_name = (1..=LONGEST_NAME_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !is_name {
        return Err(Expected(
            "a name of 1 to 64 lower-case letters, digits and hyphens, found another string",
        ));
    }
    if name == reserved {
        return Err(is_reserved);
    }
    Ok(name)
}
