//! What is asked of the source, as messages name it and as a token's claim has to allow it (docs/edge.md).

use std::fmt;

/// One kind of request, about a stream or about all streams whose names begin with a prefix.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action<'a> {
    Read(&'a str),
    Look(&'a str),
    Delete(&'a str),
    Trim(&'a str),
    List(&'a str),
    Follow(&'a str),
}

impl Action<'_> {
    /// The least entry of the claim `streams` that allows it.
    pub(super) fn grant(self) -> String {
        match self {
            Self::Read(name) | Self::Look(name) => format!("read:{name}"),
            Self::Delete(name) => format!("write:{name}"),
            // The edge does not look into the body, where the name stands.
            Self::Trim(_) => "write:*".to_owned(),
            Self::List(prefix) | Self::Follow(prefix) => match prefix.rfind('/') {
                Some(slash) => format!("read:{}", &prefix[..=slash]),
                None => "read:*".to_owned(),
            },
        }
    }
}

impl fmt::Display for Action<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(name) => write!(f, "read `{name}`"),
            Self::Look(name) => write!(f, "look at `{name}`"),
            Self::Delete(name) => write!(f, "delete `{name}`"),
            Self::Trim(name) => write!(f, "trim `{name}`"),
            Self::List("") => f.write_str("list all streams"),
            Self::List(prefix) => write!(f, "list the streams `{prefix}…`"),
            Self::Follow("") => f.write_str("follow the changes of all streams"),
            Self::Follow(prefix) => write!(f, "follow the changes of the streams `{prefix}…`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_action_knows_the_least_grant_that_allows_it() {
        for (action, grant) in [
            (Action::Read("jobs/a"), "read:jobs/a"),
            (Action::Delete("jobs/a"), "write:jobs/a"),
            (Action::Trim("jobs/a"), "write:*"),
            (Action::List("jobs/a/b-"), "read:jobs/a/"),
            (Action::Follow("jobs"), "read:*"),
        ] {
            assert_eq!(action.grant(), grant, "{action}");
        }
    }
}
