//! The line of a stream: from what is known of it, and back with every rule checked that needs no other line.

use std::borrow::Cow;

use tailwater_storage::engine::ExportedStream;
use tailwater_storage::stream::producer::NUMBER_MAX;
use tailwater_storage::stream::{
    CreateRequest, Epoch, ForkRequest, ForkSource, Lifetime, Lineage, NameLimits, Position, ProducerId,
    ProducerMark, ProducerState, Producers, Seq, Span, StreamKind, StreamState, Timestamp,
};

use super::error::{Mistake, quoted};
use super::fields;
use super::lines::{
    ForkField, KindField, LifetimeField, ProducerField, RequestedField, SourceField, SpanField, StreamLine,
};

/// The line of a stream. Equal states give equal lines.
pub(super) fn line(stream: &ExportedStream) -> StreamLine<'_> {
    let state = &stream.state;
    StreamLine {
        name: state.name.as_str().into(),
        id: state.id.to_string().into(),
        content_type: state.content_type.as_str().into(),
        lifetime: lifetime_field(state.lifetime),
        requested: requested_field(&state.requested),
        lineage: state.lineage.spans().iter().map(span_field).collect(),
        source: state.source.as_ref().map(source_field),
        oldest: state.oldest.get(),
        tail: state.tail.get(),
        messages: state.messages,
        closed: state.closed,
        stream_seq: state.stream_seq.as_deref().map(Cow::Borrowed),
        producers: producer_fields(&state.producers),
        created_at_ms: state.created_at.as_millis(),
        last_append_at_ms: state.last_append_at.map(Timestamp::as_millis),
        touched_at_ms: state.touched_at.as_millis(),
        deleted: state.deleted,
        kind: match state.kind {
            StreamKind::Plain => KindField::Plain,
            StreamKind::Run => KindField::Run,
        },
        beside: state.beside.as_ref().map(|name| name.as_str().into()),
        has_forks: stream.has_forks,
    }
}

fn lifetime_field(lifetime: Lifetime) -> Option<LifetimeField> {
    match lifetime {
        Lifetime::Forever => None,
        Lifetime::Ttl { seconds } => Some(LifetimeField::TtlSecs(seconds)),
        Lifetime::Until { at } => Some(LifetimeField::UntilMs(at.as_millis())),
    }
}

fn requested_field(requested: &CreateRequest) -> RequestedField<'_> {
    RequestedField {
        content_type: requested.content_type.as_ref().map(|text| text.as_str().into()),
        lifetime: lifetime_field(requested.lifetime),
        fork: requested.fork.as_ref().map(|fork| ForkField {
            source: fork.source.as_str().into(),
            offset: fork.offset.map(|token| token.to_string().into()),
            sub_offset: fork.sub_offset,
        }),
    }
}

fn span_field(span: &Span) -> SpanField<'_> {
    SpanField {
        from: span.from.get(),
        owner: span.owner.to_string().into(),
    }
}

fn source_field(source: &ForkSource) -> SourceField<'_> {
    SourceField {
        id: source.id.to_string().into(),
        name: source.name.as_str().into(),
        point: source.point.get(),
    }
}

fn producer_fields(producers: &Producers) -> Vec<ProducerField<'_>> {
    let mut fields: Vec<_> = producers.iter().map(producer_field).collect();
    fields.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    fields
}

fn producer_field<'a>((id, state): (&'a ProducerId, &ProducerState)) -> ProducerField<'a> {
    ProducerField {
        id: id.as_str().into(),
        epoch: state.epoch.get(),
        seq: state.seq.get(),
        end: state.end.get(),
        at_ms: state.at.as_millis(),
    }
}

/// The stream that a line tells of.
///
/// # Errors
/// [`Mistake::Value`] for what no stream can be.
pub(super) fn exported(line: StreamLine<'_>, names: NameLimits) -> Result<ExportedStream, Mistake> {
    let tail = fields::position("stream.tail", line.tail)?;
    if line.messages > line.tail {
        let fix = format_args!("a stream of {tail} bytes (`stream.tail`) has at most as many messages");
        return Err(Mistake::value("stream.messages", line.messages, fix));
    }
    let state = StreamState {
        id: fields::id("stream.id", &line.id)?,
        name: fields::name("stream.name", &line.name, names)?,
        kind: match line.kind {
            KindField::Plain => StreamKind::Plain,
            KindField::Run => StreamKind::Run,
        },
        beside: line
            .beside
            .map(|text| fields::name("stream.beside", &text, NameLimits::NONE))
            .transpose()?,
        content_type: fields::content_type("stream.content_type", &line.content_type)?,
        lifetime: lifetime(line.lifetime),
        requested: requested(&line.requested)?,
        lineage: lineage(&line.lineage, tail)?,
        source: line.source.map(|field| source(&field, tail)).transpose()?,
        oldest: fields::position_within("stream.oldest", line.oldest, tail)?,
        tail,
        messages: line.messages,
        closed: line.closed,
        stream_seq: line.stream_seq.map(Into::into),
        producers: producers(&line.producers, tail)?,
        created_at: Timestamp::from_millis(line.created_at_ms),
        last_append_at: line.last_append_at_ms.map(Timestamp::from_millis),
        touched_at: Timestamp::from_millis(line.touched_at_ms),
        deleted: line.deleted,
    };
    Ok(ExportedStream {
        state,
        has_forks: line.has_forks,
    })
}

fn lifetime(field: Option<LifetimeField>) -> Lifetime {
    match field {
        None => Lifetime::Forever,
        Some(LifetimeField::TtlSecs(seconds)) => Lifetime::Ttl { seconds },
        Some(LifetimeField::UntilMs(millis)) => Lifetime::Until {
            at: Timestamp::from_millis(millis),
        },
    }
}

fn requested(field: &RequestedField<'_>) -> Result<CreateRequest, Mistake> {
    let content_type = field.content_type.as_deref();
    Ok(CreateRequest {
        content_type: content_type
            .map(|text| fields::content_type("stream.requested.content_type", text))
            .transpose()?,
        lifetime: lifetime(field.lifetime),
        fork: field.fork.as_ref().map(fork).transpose()?,
    })
}

fn fork(field: &ForkField<'_>) -> Result<ForkRequest, Mistake> {
    let offset = field.offset.as_deref();
    Ok(ForkRequest {
        source: fields::name("stream.requested.fork.source", &field.source, NameLimits::NONE)?,
        offset: offset
            .map(|text| fields::token("stream.requested.fork.offset", text))
            .transpose()?,
        sub_offset: field.sub_offset,
    })
}

/// Where bytes were stored says nothing elsewhere, so each span counts as stored by its owner.
fn lineage(spans: &[SpanField<'_>], tail: Position) -> Result<Lineage, Mistake> {
    let span = |(nth, span): (usize, &SpanField<'_>)| {
        let owner = fields::id(format_args!("stream.lineage[{nth}].owner"), &span.owner)?;
        Ok(Span {
            from: fields::position_within(format_args!("stream.lineage[{nth}].from"), span.from, tail)?,
            owner,
            stored_in: owner,
        })
    };
    let spans = spans
        .iter()
        .enumerate()
        .map(span)
        .collect::<Result<Vec<_>, _>>()?;
    let from: Vec<_> = spans.iter().map(|span| span.from.get()).collect();
    Lineage::from_spans(spans).ok_or_else(|| {
        let fix = "the first span begins at 0, and each other one behind the one before it";
        Mistake::value("stream.lineage", from_list(&from), fix)
    })
}

fn from_list(from: &[u64]) -> String {
    match from {
        [] => String::from("empty"),
        [first, ..] if *first != 0 => format!("from {first} on"),
        _ => {
            let back = from.windows(2).find(|pair| pair[0] >= pair[1]);
            back.map_or_else(String::new, |pair| {
                format!("from {} and then from {}", pair[0], pair[1])
            })
        }
    }
}

fn source(field: &SourceField<'_>, tail: Position) -> Result<ForkSource, Mistake> {
    Ok(ForkSource {
        id: fields::id("stream.source.id", &field.id)?,
        name: fields::name("stream.source.name", &field.name, NameLimits::NONE)?,
        point: fields::position_within("stream.source.point", field.point, tail)?,
    })
}

fn producers(fields: &[ProducerField<'_>], tail: Position) -> Result<Producers, Mistake> {
    let mut producers = Producers::default();
    for (nth, field) in fields.iter().enumerate() {
        let mark = mark(field, nth)?;
        if producers.get(&mark.id).is_some() {
            let path = format_args!("stream.producers[{nth}].id");
            let fix = "another one before it has the same; a producer stands there once";
            return Err(Mistake::value(path, quoted(&field.id), fix));
        }
        let end = fields::position_within(format_args!("stream.producers[{nth}].end"), field.end, tail)?;
        producers.record(&mark, end, Timestamp::from_millis(field.at_ms));
    }
    Ok(producers)
}

fn mark(field: &ProducerField<'_>, nth: usize) -> Result<ProducerMark, Mistake> {
    let path = |name| format!("stream.producers[{nth}].{name}");
    let number = |name, value| Mistake::value(path(name), value, format_args!("it is at most {NUMBER_MAX}"));
    Ok(ProducerMark {
        id: ProducerId::parse(&field.id).ok_or_else(|| {
            let fix = format_args!("a producer's id has from 1 to {} bytes", ProducerId::BYTES_MAX);
            Mistake::value(path("id"), quoted(&field.id), fix)
        })?,
        epoch: Epoch::new(field.epoch).ok_or_else(|| number("epoch", field.epoch))?,
        seq: Seq::new(field.seq).ok_or_else(|| number("seq", field.seq))?,
    })
}
