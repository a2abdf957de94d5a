//! One program's settings: key, type, default, what is allowed, and what it means, each written once.
//! Knows nothing of where a value comes from.

use crate::kinds::AnyKind;

/// One setting, as everything but the typed structs sees it.
#[derive(Clone, Copy)]
pub struct Setting {
    /// `section.key`, as in the TOML file.
    pub key: &'static str,
    /// A text that `kind` accepts.
    pub default: &'static str,
    /// When another default holds, as words, and which.
    pub other_default: Option<(&'static str, &'static str)>,
    /// Lines of one sentence for people.
    pub meaning: &'static [&'static str],
    /// What it may be.
    pub kind: &'static dyn AnyKind,
}

/// The settings of one program.
pub struct Table {
    /// In the order in which they are shown.
    pub settings: &'static [Setting],
    /// Beginnings of the names of variables that are looked at, those with `__` in them. One of a setting that has `_` in
    /// their places is a mistake.
    pub variables: &'static str,
    /// Beginnings of variables that are other programs'.
    pub foreign_variables: &'static [&'static str],
    /// Beginnings of keys of later versions or of other servers, and what to do instead.
    pub elsewhere: &'static [(&'static str, &'static str)],
    /// Keys of the file that the program reads by itself, since they are lists of tables.
    pub lists: &'static [&'static str],
}

/// What all variables begin with.
pub(crate) const PREFIX: &str = "DS_";

impl Setting {
    /// The name of the environment variable: `DS_SECTION__KEY`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.key.replace('.', "__").to_uppercase())
    }

    /// The part of the key before the point.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(section, _)| section)
    }

    /// The part of the key behind the point.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, name)| name)
    }

    /// The text that holds if no source gives one.
    #[must_use]
    pub fn default_if(&self, other_holds: bool) -> &'static str {
        match self.other_default {
            Some((_, default)) if other_holds => default,
            _ => self.default,
        }
    }

    /// What it means, in one line.
    #[must_use]
    pub fn meaning(&self) -> String {
        self.meaning
            .iter()
            .map(|line| line.trim())
            .collect::<Vec<_>>()
            .join(" ")
    }
}

impl Table {
    /// The setting with this key.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&'static Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }

    /// The sections, each once.
    #[must_use]
    pub fn sections(&self) -> Vec<&'static str> {
        let mut sections: Vec<_> = self.settings.iter().map(Setting::section).collect();
        sections.dedup();
        sections
    }

    /// Whether what is given under a wrong key may be a secret.
    pub(crate) fn has_secrets(&self) -> bool {
        self.settings.iter().any(|setting| setting.kind.is_secret())
    }
}

/// Makes of a table of settings the typed structs, the list `SETTINGS` and the function `build`, so that none of them
/// can name a setting that the others lack. A default is always the same, or there is another one `on disk`.
#[macro_export]
macro_rules! settings {
    ($(
        $(#[doc = $section_doc:literal])+
        $section:ident: $Section:ident {$(
            $(#[doc = $meaning:literal])+
            $field:ident: $Value:ty = $key:literal, $default:literal $(and $on_disk:literal on disk)?, $kind:expr;
        )+}
    )+) => {
        /// Everything that can be configured, checked.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Config {$(
            $(#[doc = $section_doc])+
            pub $section: $Section,
        )+}

        $(
            $(#[doc = $section_doc])+
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $Section {$(
                $(#[doc = $meaning])+
                #[doc = concat!("\n\nSetting `", $key, "`, by default `", $default, "`"$(, " (on disk `", $on_disk, "`)")?, ".")]
                pub $field: $Value,
            )+}
        )+

        /// Every setting, in the order of the table.
        pub(super) static SETTINGS: &[$crate::Setting] = &[$($(
            $crate::Setting {
                key: $key,
                default: $default,
                other_default: [$(Some(("on disk", $on_disk)),)? None][0],
                meaning: &[$($meaning),+],
                kind: &$kind,
            },
        )+)+];

        /// Makes the structs from texts that their kinds have accepted.
        pub(super) fn build<'t>(text_of: impl Fn(&'static $crate::Setting) -> &'t str) -> Config {
            let text_of = |key: &str| SETTINGS.iter().find(|setting| setting.key == key).map_or("", &text_of);
            Config {$(
                $section: $Section {$(
                    $field: $crate::kinds::Kind::parse(&$kind, text_of($key))
                        .expect("only texts that the kind accepted get here"),
                )+},
            )+}
        }
    };
}
