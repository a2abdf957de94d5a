//! Metrics of schedules.

use tailwater_process::page::Page;
use tailwater_storage::Schedules;
use tailwater_storage::schedules::ScheduleStats;

pub(super) fn samples(page: &mut Page, all: &Schedules) {
    let ScheduleStats {
        fires,
        failures,
        misfires,
    } = all.stats();
    page.gauge("tailwater_schedules", "Schedules.", all.count());
    let counters = [
        ("fires", "Messages that schedules have enqueued.", fires),
        ("failures", "Attempts to enqueue one that failed.", failures),
        (
            "misfires",
            "Times that a schedule was found to have fire times that had passed.",
            misfires,
        ),
    ];
    for (name, meaning, counter) in counters {
        let name = format!("tailwater_schedule_{name}_total");
        page.counter(&name, meaning, counter.get());
    }
}
