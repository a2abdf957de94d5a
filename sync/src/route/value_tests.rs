use super::*;

fn read(of: ColumnType, json: &str) -> Result<Option<Value<'_>>, Misfit> {
    of.read(serde_json::from_str(json).unwrap())
}

fn timestamp(format: TimeFormat) -> ColumnType {
    ColumnType::Timestamp(format)
}

#[test]
fn each_type_takes_what_it_should() {
    let uuid = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
    let quoted_uuid = format!("{uuid:?}");
    let cases = [
        (ColumnType::Text, r#""a\n\u00e9""#, Value::Text("a\né".into())),
        (ColumnType::Text, "1.50", Value::Text("1.50".into())),
        (ColumnType::Text, "true", Value::Text("true".into())),
        (ColumnType::BigInt, "9223372036854775807", Value::BigInt(i64::MAX)),
        (
            ColumnType::BigInt,
            r#""-9223372036854775808""#,
            Value::BigInt(i64::MIN),
        ),
        (ColumnType::Integer, "-2147483648", Value::Integer(i32::MIN)),
        (ColumnType::Double, "1e3", Value::Double(1000.0)),
        (ColumnType::Double, "1e-999", Value::Double(0.0)),
        (ColumnType::Numeric, "1.10e500", Value::Numeric("1.10e500".into())),
        (ColumnType::Numeric, r#""0.1""#, Value::Numeric("0.1".into())),
        (ColumnType::Boolean, "false", Value::Boolean(false)),
        (ColumnType::Boolean, r#""true""#, Value::Boolean(true)),
        (
            timestamp(TimeFormat::Rfc3339),
            r#""1970-01-01T01:00:00.000001+01:00""#,
            Value::Timestamp(1),
        ),
        (timestamp(TimeFormat::EpochMs), "-1", Value::Timestamp(-1_000)),
        (
            timestamp(TimeFormat::EpochS),
            r#""2""#,
            Value::Timestamp(2_000_000),
        ),
        (ColumnType::Date, r#""2000-01-01""#, Value::Date(10_957)),
        (ColumnType::Date, r#""1969-12-31""#, Value::Date(-1)),
        (
            ColumnType::Uuid,
            &quoted_uuid,
            Value::Uuid(Uuid::parse_str(uuid).unwrap()),
        ),
        (
            ColumnType::Json,
            r#"{"a": [1.0]}"#,
            Value::Json(br#"{"a": [1.0]}"#.into()),
        ),
        (
            ColumnType::Bytes,
            r#""AAH/""#,
            Value::Bytes([0, 1, 255][..].into()),
        ),
    ];
    for (of, json, value) in cases {
        assert_eq!(read(of, json), Ok(Some(value)), "{of} from {json}");
    }
    for (_, of) in ColumnType::NAMES {
        assert_eq!(read(of, "null"), Ok(None), "{of}");
    }
}

#[test]
fn what_does_not_fit_is_told_with_what_it_is_and_what_would_fit() {
    let cases = [
        (
            ColumnType::Text,
            "[1]",
            "is an array, which is no text; a jsonb holds it",
        ),
        (
            ColumnType::Text,
            r#""a\u0000""#,
            r"has the character \u0000, which PostgreSQL cannot hold in a text",
        ),
        (
            ColumnType::BigInt,
            "1.0",
            r#"is "1.0", which is no bigint; it takes digits only"#,
        ),
        (
            ColumnType::BigInt,
            r#""+1""#,
            r#"is "+1", which is no bigint; it takes digits only"#,
        ),
        (
            ColumnType::BigInt,
            r#""""#,
            r#"is "", which is no bigint; it takes digits only"#,
        ),
        (
            ColumnType::BigInt,
            "9223372036854775808",
            r#"is "9223372036854775808", which is out of the range of bigint"#,
        ),
        (
            ColumnType::Integer,
            "2147483648",
            r#"is "2147483648", which is out of the range of integer"#,
        ),
        (
            ColumnType::Double,
            "1e999",
            r#"is "1e999", which is out of the range of double precision"#,
        ),
        (
            ColumnType::Double,
            r#""NaN""#,
            r#"is "NaN", which is no double precision"#,
        ),
        (ColumnType::Numeric, r#"" 1""#, r#"is " 1", which is no numeric"#),
        (
            ColumnType::Boolean,
            "1",
            "is a number, which is no boolean; it takes true or false",
        ),
        (
            timestamp(TimeFormat::Rfc3339),
            "1",
            "is a number, which is no timestamptz; it takes 2026-11-29T08:30:00Z, or say `format`",
        ),
        (
            timestamp(TimeFormat::Rfc3339),
            r#""2026-11-29T08:30:00""#,
            r#"is "2026-11-29T08:30:00", which is no timestamptz; it takes 2026-11-29T08:30:00Z, or say `format`"#,
        ),
        (
            timestamp(TimeFormat::EpochMs),
            "1.5",
            r#"is "1.5", which is no timestamptz; it takes whole milliseconds since 1970"#,
        ),
        (
            timestamp(TimeFormat::EpochS),
            "9223372036854775807",
            r#"is "9223372036854775807", which is out of the range of timestamptz"#,
        ),
        (
            ColumnType::Date,
            r#""2026-11-29T08:30:00Z""#,
            r#"is "2026-11-29T08:30:00Z", which is no date; it takes 2026-11-29"#,
        ),
        (
            ColumnType::Date,
            r#""2026-02-29""#,
            r#"is "2026-02-29", which is no date; it takes 2026-11-29"#,
        ),
        (ColumnType::Uuid, r#""f81d""#, r#"is "f81d", which is no uuid"#),
        (
            ColumnType::Bytes,
            r#""AAH""#,
            r#"is "AAH", which is no bytea; it takes base64 with padding"#,
        ),
        (ColumnType::Uuid, "{}", "is an object, which is no uuid"),
        (
            ColumnType::Double,
            "true",
            "is a truth value, which is no double precision",
        ),
    ];
    for (of, json, reason) in cases {
        let misfit = read(of, json).expect_err(json);
        assert_eq!(misfit.to_string(), reason, "{of} from {json}");
    }
    assert_eq!(
        read(ColumnType::Json, r#"["\u0000"]"#),
        Err(Misfit::Unstorable(Unstorable::Nul))
    );
    let half = read(ColumnType::Text, r#""\ud83d""#);
    assert_eq!(half, Err(Misfit::Unstorable(Unstorable::HalfPair(0xD83D))));
}

#[test]
fn a_long_value_is_not_quoted_whole() {
    let text = format!("\"{}\"", "é".repeat(1_000));
    let said = read(ColumnType::Date, &text).unwrap_err().to_string();
    assert_eq!(
        said,
        format!(
            "is \"{}…\", which is no date; it takes 2026-11-29",
            "é".repeat(60)
        )
    );
}

/// Nothing that a stream can hold makes a value that PostgreSQL reads as something else: infinity, NaN, and moments
/// by words.
#[test]
fn words_that_postgresql_would_take_are_none_of_json() {
    for word in [
        "\"infinity\"",
        "\"NaN\"",
        "\"now\"",
        "\"today\"",
        "\"epoch\"",
        "\"0x10\"",
        "\"1_000\"",
    ] {
        for (_, of) in ColumnType::NAMES {
            if !matches!(of, ColumnType::Text | ColumnType::Json | ColumnType::Bytes) {
                assert!(read(of, word).is_err(), "{of} from {word}");
            }
        }
    }
}
