//! What is told of refusals that no request to a server of these tests meets.

use http::StatusCode;
use tailwater_storage::engine::{AppendError, DeleteError, TrimError};
use tailwater_storage::stream::{AppendRefusal, DeleteRefusal, Epoch, LeaseRefusal, TrimRefusal};

use super::Problem;

#[test]
fn whoever_may_not_append_to_a_run_is_told_why_and_what_to_do() {
    let epoch = |number| Epoch::new(number).expect("an epoch");
    let (current, claimed) = (epoch(3), epoch(5));
    for (refusal, words) in [
        (LeaseRefusal::NotTheLease, ["`lease`", "Claim the job"]),
        (LeaseRefusal::NotLeased, ["Nobody holds", "claim the job again"]),
        (
            LeaseRefusal::NotGiven { current, claimed },
            ["epoch 3", "your own claim"],
        ),
        (LeaseRefusal::Closes, ["Only the server", "Stream-Closed"]),
    ] {
        let problem = Problem::from(AppendError::Refused(AppendRefusal::Lease(refusal)));
        assert_eq!(
            (problem.0.status, problem.code()),
            (StatusCode::FORBIDDEN, "run_lease")
        );
        for words in words {
            assert!(
                problem.detail().contains(words),
                "{words} in {}",
                problem.detail()
            );
        }
    }
}

#[test]
fn a_worker_whose_event_has_a_type_of_the_servers_own_is_told_which() {
    let refusal = LeaseRefusal::Reserved {
        nth: 2,
        kind: "run.dead".into(),
    };
    let problem = Problem::from(AppendError::Refused(AppendRefusal::Lease(refusal)));
    assert_eq!(
        (problem.0.status, problem.code()),
        (StatusCode::BAD_REQUEST, "reserved_event_type")
    );
    for words in ["Event 2", "\"run.dead\"", "Name it otherwise"] {
        assert!(
            problem.detail().contains(words),
            "{words} in {}",
            problem.detail()
        );
    }
}

#[test]
fn an_open_run_is_neither_deleted_nor_trimmed() {
    for problem in [
        Problem::from(DeleteError::Refused(DeleteRefusal::OpenRun)),
        Problem::from(TrimError::Refused(TrimRefusal::OpenRun)),
    ] {
        assert_eq!(
            (problem.0.status, problem.code()),
            (StatusCode::CONFLICT, "run_open")
        );
        assert!(
            problem.detail().contains("cancel it first"),
            "{}",
            problem.detail()
        );
    }
}
