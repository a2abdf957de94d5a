//! The documents are one book: every link leads somewhere, every chapter is in the table of contents, and what other files
//! say of documents is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use tailwater_e2e::envoy::repository;

/// Directories that are not the project's own.
const FOREIGN: [&str; 4] = ["target", "node_modules", "secrets", "generated"];
/// Files larger than this are data.
const TEXT_BYTES_MAX: u64 = 1 << 20;

fn files_below(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("the repository can be listed") {
        let path = entry.expect("it can be listed").path();
        let name = path
            .file_name()
            .expect("it has a name")
            .to_string_lossy()
            .into_owned();
        let is_hidden = name.starts_with('.') && name != ".github";
        if path.is_symlink() || is_hidden || FOREIGN.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            files_below(&path, into);
        } else {
            into.push(path);
        }
    }
}

/// A document without its blocks of code, line by line, and without code within lines if that is to go too.
fn prose(text: &str, without_code: bool) -> Vec<String> {
    let mut is_code = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code && !line.starts_with("    ") {
            let kept = line.split('`').step_by(if without_code { 2 } else { 1 });
            lines.push(kept.collect::<Vec<_>>().join(""));
        }
    }
    lines
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut counts = BTreeMap::<String, usize>::new();
    let mut anchors = BTreeSet::new();
    for line in prose(text, false) {
        let level = line.len() - line.trim_start_matches('#').len();
        let Some(heading) = line[level..]
            .strip_prefix(' ')
            .filter(|_| (1..=6).contains(&level))
        else {
            continue;
        };
        let slug: String = heading
            .to_lowercase()
            .chars()
            .filter(|character| character.is_alphanumeric() || " -_".contains(*character))
            .map(|character| if character == ' ' { '-' } else { character })
            .collect();
        let count = counts.entry(slug.clone()).or_insert(0);
        anchors.insert(match *count {
            0 => slug.clone(),
            count => format!("{slug}-{count}"),
        });
        *count += 1;
    }
    anchors
}

/// Where the links of a document lead, those to other sites left out.
fn links(text: &str) -> Vec<String> {
    // A link may have its text on one line and its target on the next.
    let text = prose(text, true).join(" ");
    let targets = text.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split_once(')').map(|(target, _)| target.to_owned()));
    targets.filter(|target| !target.contains("://")).collect()
}

/// A path without `..`, so that two ways to a file are one.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

struct Book {
    /// Every document with its text.
    documents: BTreeMap<PathBuf, String>,
    /// All other files of the project.
    others: Vec<PathBuf>,
}

impl Book {
    fn open() -> Self {
        let mut files = Vec::new();
        files_below(&repository(), &mut files);
        let is_document = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
        let (documents, others): (Vec<_>, Vec<_>) = files.into_iter().partition(is_document);
        assert!(documents.len() > 12, "{documents:?}");
        let read = |path: PathBuf| {
            let text = std::fs::read_to_string(&path).expect("a document is a text");
            (path, text)
        };
        Self {
            documents: documents.into_iter().map(read).collect(),
            others,
        }
    }

    /// What is wrong with a link in that file; nothing if it leads somewhere.
    fn fault(&self, from: &Path, target: &str) -> Option<String> {
        let (path, anchor) = target
            .split_once('#')
            .map_or((target, None), |(path, anchor)| (path, Some(anchor)));
        let to = if path.is_empty() {
            from.to_owned()
        } else {
            plain(&from.parent().expect("a file is in a directory").join(path))
        };
        if !to.exists() {
            return Some(format!("{}: {target} is not there", from.display()));
        }
        let anchor = anchor?;
        let text = self.documents.get(&to).map_or("", String::as_str);
        (!anchors(text).contains(anchor)).then(|| format!("{}: {target} has no such heading", from.display()))
    }
}

#[test]
fn every_link_of_every_document_leads_to_a_file_and_a_heading() {
    let book = Book::open();
    let mut faults = Vec::new();
    let mut count = 0;
    for (path, text) in &book.documents {
        let links = links(text);
        count += links.len();
        faults.extend(links.iter().filter_map(|target| book.fault(path, target)));
    }
    assert!(count > 100, "only {count} links were found");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_document_is_in_the_table_of_contents() {
    let book = Book::open();
    let contents = repository().join("docs/README.md");
    let listed: BTreeSet<_> = links(&book.documents[&contents])
        .iter()
        .filter_map(|target| target.split('#').next())
        .map(|path| plain(&contents.parent().expect("it is in docs").join(path)))
        .collect();
    let missing: Vec<_> = book
        .documents
        .keys()
        .filter(|path| **path != contents && !listed.contains(*path))
        .collect();
    assert!(missing.is_empty(), "docs/README.md does not list {missing:?}");
    let front = links(&book.documents[&repository().join("README.md")]);
    assert!(front.iter().any(|target| target == "docs/README.md"), "{front:?}");
}

#[test]
fn documents_that_code_and_configurations_name_are_there_with_the_heading() {
    let book = Book::open();
    let top = repository().join("README.md");
    let mut faults = Vec::new();
    let mut count = 0;
    for path in &book.others {
        let is_small = path
            .metadata()
            .is_ok_and(|metadata| metadata.len() <= TEXT_BYTES_MAX);
        // Golden stores and the like are no texts.
        let Some(text) = is_small.then(|| std::fs::read_to_string(path).ok()).flatten() else {
            continue;
        };
        let is_part = |character: char| character.is_ascii_alphanumeric() || "_-./#".contains(character);
        for word in text.split(|character| !is_part(character)) {
            let target = word.trim_end_matches(['.', '#']);
            if target.starts_with("docs/") && target.contains(".md") {
                count += 1;
                // From the top of the repository, wherever the file is.
                if let Some(fault) = book.fault(&top, target) {
                    faults.push(format!("{}: {fault}", path.display()));
                }
            }
        }
    }
    assert!(count > 40, "only {count} were found");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn anchors_are_made_as_github_makes_them() {
    let text =
        "# Backup, check `and` numbers\n## Twice\n## Twice\n```\n# no heading\n```\n#none\n### TLS_x: a/b\n";
    let expected = ["backup-check-and-numbers", "tls_x-ab", "twice", "twice-1"];
    assert_eq!(anchors(text), expected.map(str::to_owned).into());
}
