//! What an error says of single rows: that PostgreSQL does not take them, and maybe which it was. Knows no table.

use tokio_postgres::error::SqlState;

use super::error::{class, told};

/// A row that PostgreSQL does not take, whatever happens to the others.
#[derive(Debug)]
pub(super) struct RowFault {
    /// What PostgreSQL says.
    pub(super) reason: String,
    /// Which row of the copy, from 0, if it says so.
    pub(super) row: Option<usize>,
}

impl RowFault {
    /// Whether it is the data that an error is about: data exceptions, limits of the program such as nesting, and
    /// constraints that the database's owner has put on the table. A duplicate is none of these: it would be a fault
    /// of the mirror.
    pub(super) fn of(error: &tokio_postgres::Error) -> Option<Self> {
        let said = error.as_db_error()?;
        let code = said.code();
        let is_of_data = ["22", "54"].contains(&class(code.code()))
            || *code == SqlState::CHECK_VIOLATION
            || *code == SqlState::NOT_NULL_VIOLATION;
        is_of_data.then(|| Self {
            reason: format!("{} ({})", told(said), code.code()),
            row: said.where_().and_then(row_of_copy),
        })
    }
}

impl RowFault {
    /// The same of a table that the database's owner has made, where nothing is the mirror's: all constraints count,
    /// what functions and triggers raise, and conditions of views.
    pub(super) fn of_routed(error: &tokio_postgres::Error) -> Option<Self> {
        let said = error.as_db_error()?;
        let code = said.code().code();
        ["22", "23", "38", "39", "44", "54", "P0"]
            .contains(&class(code))
            .then(|| Self {
                reason: format!("{} ({code})", told(said)),
                row: None,
            })
    }
}

/// The row in a context such as `COPY events, line 3, column payload`, in whichever language.
fn row_of_copy(context: &str) -> Option<usize> {
    let place = context
        .lines()
        .find(|line| line.starts_with("COPY "))?
        .split(',')
        .nth(1)?;
    let digits: String = place.chars().filter(char::is_ascii_digit).collect();
    digits.parse::<usize>().ok()?.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::row_of_copy;

    #[test]
    fn the_row_that_a_copy_stopped_at_is_read_in_any_language() {
        assert_eq!(row_of_copy("COPY events, line 1, column payload"), Some(0));
        assert_eq!(
            row_of_copy("JSON data, line 1: ...\nCOPY events, line 33, column payload"),
            Some(32)
        );
        assert_eq!(row_of_copy("COPY events, Zeile 7"), Some(6));
        assert_eq!(row_of_copy("COPY events_2027, line 12"), Some(11));
        assert_eq!(row_of_copy("PL/pgSQL function f() line 3"), None);
        assert_eq!(row_of_copy("COPY events, line 0"), None);
    }
}
