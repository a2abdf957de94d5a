//! The URL by which others reach the streams, if it is not the one that the server listens on.

use http::Uri;

use super::kinds::{Kind, quoted};

/// A URL with a path, or nothing.
pub(super) struct OptionalUrl;

impl Kind for OptionalUrl {
    type Value = Option<String>;

    fn allowed(&self) -> String {
        "a URL such as https://streams.example.com/v1/stream; empty for the address that is listened on"
            .to_owned()
    }

    fn parse(&self, text: &str) -> Result<Option<String>, Option<String>> {
        if text.is_empty() {
            return Ok(None);
        }
        let wrong = |reason: &str| Err(Some(reason.to_owned()));
        let Ok(url) = text.parse::<Uri>() else {
            return Err(None);
        };
        if !matches!(url.scheme_str(), Some("http" | "https")) {
            return wrong("it does not begin with http:// or https://");
        }
        if text.contains(['?', '#', '@']) {
            return wrong("it has credentials, a query or a fragment");
        }
        Ok(Some(text.trim_end_matches('/').to_owned()))
    }

    fn toml(&self, text: &str) -> String {
        quoted(text)
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind as _, OptionalUrl};

    #[test]
    fn a_public_url_is_one_that_paths_can_be_added_to() {
        let parse = |text| OptionalUrl.parse(text);
        assert_eq!(parse(""), Ok(None));
        for text in ["https://s.example/v1/stream", "https://s.example/v1/stream/"] {
            assert_eq!(
                parse(text),
                Ok(Some("https://s.example/v1/stream".to_owned())),
                "{text}"
            );
        }
        for wrong in [
            "s.example",
            "/v1",
            "ftp://s/x",
            "https://u@s/x",
            "https://s/x?y",
            "https://s/x#y",
            "https://",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
