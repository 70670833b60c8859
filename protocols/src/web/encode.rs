//! How names are written in URLs. Pure.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What must be encoded in a path: everything but RFC 3986's unreserved characters, and the slash. Signatures are
/// computed over the path in exactly this form.
pub(crate) const PATH: &AsciiSet = &QUERY.remove(b'/');
/// The same in a query.
pub(crate) const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A query of these names and values, with its question mark; nothing of nothing.
pub(crate) fn query(query: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in query {
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(name);
        if !value.is_empty() {
            text.extend(["=", &utf8_percent_encode(value, QUERY).to_string()]);
        }
    }
    text
}
