//! Exports and imports: what comes out of one engine goes into another, and nothing is half there.

mod atomicity;
mod forks;
mod moments;
mod runs;
mod sameness;

use bytes::Bytes;
use tailwater_storage::engine::{
    AppendRequest, Begun, Existing, ExportedAppend, ExportedStream, Finished, ImportError,
};
use tailwater_storage::stream::{MessageEnds, StreamId, StreamState};

use crate::support::ask::{Rig, at, bytes, name, producer};
use crate::support::gated::Gated;

/// A stream with all that follows it in an export.
struct Section {
    stream: ExportedStream,
    controls: Vec<(Bytes, Bytes)>,
    appends: Vec<ExportedAppend>,
}

impl Section {
    fn state(&mut self) -> &mut StreamState {
        &mut self.stream.state
    }
}

async fn export(rig: &Rig, prefix: &str) -> Vec<Section> {
    let mut exporter = rig.engine.export(prefix);
    let mut sections = Vec::new();
    while let Some(mut export) = exporter.next().await.expect("the storage works") {
        let mut appends = Vec::new();
        while let Some(append) = export.next().await.expect("the bytes are held") {
            appends.push(append);
        }
        sections.push(Section {
            stream: export.stream().clone(),
            controls: export.controls().to_vec(),
            appends,
        });
    }
    sections
}

/// Imports all sections in one go; answers what became of each.
async fn import(rig: &Rig, sections: &[Section], existing: Existing) -> Vec<Result<Finished, ImportError>> {
    let mut importer = rig.engine.import(existing);
    let mut results = Vec::new();
    for section in sections {
        let result = async {
            if importer.begin(section.stream.clone()).await? == Begun::Present {
                return Ok(Finished::Present);
            }
            for (key, value) in &section.controls {
                importer.control(key.clone(), value.clone()).await?;
            }
            for append in &section.appends {
                importer.append(append.clone()).await?;
            }
            importer.finish().await
        };
        results.push(result.await);
    }
    results
}

async fn import_all(rig: &Rig, sections: &[Section]) {
    for result in import(rig, sections, Existing::Refuse).await {
        assert_eq!(result.expect("imported"), Finished::Imported);
    }
}

fn other() -> Rig {
    Rig::over(Gated::slow(1 << 30))
}

type Said = (StreamState, Vec<(Bytes, Bytes)>, Vec<ExportedAppend>);

/// What an export says, without what is a server's own: ids, and where bytes are stored.
fn said(sections: Vec<Section>) -> Vec<Said> {
    let portable = |section: Section| {
        let mut state = section.stream.state;
        let nobody = StreamId::new(1).expect("an id");
        let spans = state
            .lineage
            .spans()
            .iter()
            .map(|span| tailwater_storage::stream::Span {
                stored_in: nobody,
                ..*span
            });
        state.lineage = tailwater_storage::stream::Lineage::from_spans(spans.collect()).expect("a lineage");
        state.id = nobody;
        if let Some(source) = &mut state.source {
            source.id = nobody;
        }
        (state, section.controls, section.appends)
    };
    sections.into_iter().map(portable).collect()
}

fn append_of(start: u64, first_message: u64, payload: &'static str) -> ExportedAppend {
    ExportedAppend {
        start: at(start),
        at: tailwater_storage::stream::Timestamp::from_millis(7),
        first_message,
        ends: MessageEnds::One,
        payload: Bytes::from_static(payload.as_bytes()),
    }
}

/// Streams with everything that a stream can have.
async fn fill(rig: &Rig) {
    rig.create_json("jobs/1").await;
    for body in ["[1,22,333]", "{\"a\":\"b\"}", "[4,5]"] {
        rig.append_json("jobs/1", body).await;
        rig.clock.advance_millis(1_000);
    }
    rig.trim("jobs/1", 2).await;
    rig.create_living("runs/1", 90).await;
    for seq in 0..3 {
        let request = AppendRequest {
            producer: Some(producer("p", 4, seq)),
            stream_seq: Some(format!("{seq:03}").into()),
            ..bytes("step ")
        };
        rig.engine
            .append(&name("runs/1"), request)
            .await
            .expect("appended");
        rig.clock.advance_millis(500);
    }
    rig.close("runs/1").await.expect("closed");
    rig.create("empty").await.expect("created");
}
