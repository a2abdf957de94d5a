//! What a check of a store finds.

/// So many damages, and so many notes, are told of; damages beside those are counted.
const FINDINGS_MAX: usize = 1000;

/// What is damaged, and what looks strange and is not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Findings {
    pub(crate) damage: Vec<String>,
    /// Found beside those in the list.
    pub(crate) more_damage: u64,
    pub(crate) notes: Vec<String>,
}

impl Findings {
    pub(crate) fn add(&mut self, what: String) {
        if self.damage.len() < FINDINGS_MAX {
            self.damage.push(what);
        } else {
            self.more_damage += 1;
        }
    }

    pub(crate) fn note(&mut self, note: String) {
        if self.notes.len() < FINDINGS_MAX {
            self.notes.push(note);
        }
    }

    pub(crate) fn append(&mut self, others: Self) {
        self.more_damage += others.more_damage;
        others.damage.into_iter().for_each(|what| self.add(what));
        others.notes.into_iter().for_each(|note| self.note(note));
    }

    pub(crate) fn count(&self) -> u64 {
        self.damage.len() as u64 + self.more_damage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_to_tell_is_counted() {
        let mut found = Findings::default();
        for number in 0..FINDINGS_MAX + 3 {
            let mut one = Findings::default();
            one.add(number.to_string());
            one.note(number.to_string());
            found.append(one);
        }
        assert_eq!(
            (found.damage.len(), found.notes.len()),
            (FINDINGS_MAX, FINDINGS_MAX)
        );
        assert_eq!(found.more_damage, 3);
        assert_eq!(found.count(), FINDINGS_MAX as u64 + 3);
    }
}
