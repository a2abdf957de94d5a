//! Which span a task is at work for, for whoever tells of it elsewhere: on the next request, or as what caused a commit.

use opentelemetry::trace::SpanContext;

tokio::task_local! {
    static CURRENT: SpanContext;
}

/// Does something for a span. What it hands to other tasks is not told to be for that span.
pub fn within<F: Future>(span: SpanContext, work: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(span, work)
}

/// The span that this task is at work for, if there is one. It may be one that is not sampled.
#[must_use]
pub fn current() -> Option<SpanContext> {
    let current = CURRENT.try_with(Clone::clone).ok()?;
    current.is_valid().then_some(current)
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};

    use super::*;

    fn span(number: u8) -> SpanContext {
        let (trace, span) = (TraceId::from_bytes([number; 16]), SpanId::from_bytes([number; 8]));
        SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::NONE)
    }

    #[tokio::test]
    async fn work_is_for_the_innermost_span_while_it_is_done() {
        let id = || current().map(|span| span.span_id());
        assert_eq!(id(), None);
        let (outer, inner) = (span(1), span(2));
        let (outer_id, inner_id) = (outer.span_id(), inner.span_id());
        within(outer, async {
            assert_eq!(id(), Some(outer_id));
            within(inner, async { assert_eq!(id(), Some(inner_id)) }).await;
            assert_eq!(id(), Some(outer_id));
        })
        .await;
        assert_eq!(id(), None);
    }

    #[tokio::test]
    async fn without_a_span_there_is_none_and_other_tasks_have_none() {
        within(SpanContext::NONE, async { assert!(current().is_none()) }).await;
        let elsewhere = within(span(1), async {
            tokio::spawn(async { current().is_none() }).await
        });
        assert!(elsewhere.await.expect("it does not panic"));
    }
}
