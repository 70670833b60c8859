//! What somebody probably meant who wrote a name that nobody knows.

/// The known name that is most like `name`; none where nothing is known. Likeness is Jaro-Winkler's, which forgives
/// what typing does: letters left out, doubled or swapped, and wrong endings.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |known: &str| strsim::jaro_winkler(known, name);
    known.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_are_recognised() {
        let known = ["source_url", "source_options", "destination_url", "retries", "rate_limit"];
        for (name, meant) in [
            ("sorce_url", "source_url"),
            ("source_option", "source_options"),
            ("destinationUrl", "destination_url"),
            ("retry", "retries"),
            ("ratelimit", "rate_limit"),
        ] {
            assert_eq!(nearest(name, known), Some(meant), "{name}");
        }
        assert_eq!(nearest("anything", []), None);
    }
}
