//! The status as a page for people: one embedded file, no script, nothing loaded from elsewhere.

use std::fmt::Write;

use serde_json::Value;

use super::status::Status;

/// The page around the rows; `{{…}}` marks what is filled in.
const PAGE: &str = include_str!("page.html");

/// Shows a status, part after part, in its own order.
pub(super) fn render(status: &Status) -> String {
    let status = serde_json::to_value(status).expect("a tree of texts, numbers and lists");
    let environment = status.get("environment").and_then(Value::as_str);
    let mut rows = String::new();
    add_rows("", &status, &mut rows);
    PAGE.replace("{{environment}}", &escape(environment.unwrap_or_default()))
        .replace("{{rows}}", &rows)
}

/// Adds a row for every leaf, under its path.
fn add_rows(path: &str, value: &Value, rows: &mut String) {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path} {name}"),
    };
    match value {
        Value::Object(parts) => {
            for (name, part) in parts {
                add_rows(&below(&name.replace('_', " ")), part, rows);
            }
        }
        Value::Array(elements) if !elements.is_empty() => {
            for (number, element) in (1..).zip(elements) {
                add_rows(&below(&number.to_string()), element, rows);
            }
        }
        leaf => {
            let text = match leaf {
                Value::Null | Value::Array(_) => "–".to_owned(),
                Value::Bool(true) => "yes".to_owned(),
                Value::Bool(false) => "no".to_owned(),
                Value::String(text) => escape(text),
                other => escape(&other.to_string()),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(rows, "<tr><th scope=\"row\">{}<td>{text}", escape(path));
        }
    }
}

/// Makes a text safe as the content of an element or of a quoted attribute.
///
/// # Source
/// HTML Living Standard, section 13.1.4 "Character references" and 13.3 "Serializing".
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shows_every_leaf_under_its_path_and_escapes_both() {
        let mut rows = String::new();
        let value = json!({
            "a_b": {"<i>": "x & \"y\" 'z' <script>"},
            "list": [{"n": 1}, null],
            "on": true,
        });
        add_rows("", &value, &mut rows);
        assert_eq!(
            rows,
            "<tr><th scope=\"row\">a b &lt;i&gt;<td>x &amp; &quot;y&quot; &#39;z&#39; &lt;script&gt;\n\
             <tr><th scope=\"row\">list 1 n<td>1\n\
             <tr><th scope=\"row\">list 2<td>–\n\
             <tr><th scope=\"row\">on<td>yes\n"
        );
    }
}
