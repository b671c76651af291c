use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use proptest::prelude::*;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use serde_json::value::RawValue;

use super::*;

#[derive(Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Point {
    x: i64,
    y: i64,
}

fn read<T: DeserializeOwned>(json: &str) -> Result<T, JsonError> {
    from_slice_strict(json.as_bytes(), Limits::default())
}

fn refusal<T: DeserializeOwned + Debug>(json: &str) -> String {
    read::<T>(json).unwrap_err().to_string()
}

fn point(x: i64, y: i64) -> Point {
    Point { x, y }
}

mod arrays_for_structs {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Wrapper(Point);

    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Shape {
        Dot(Point),
        Line(Point, Point),
        Disc { center: Point, radius: i64 },
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(tag = "kind", content = "value", rename_all = "lowercase")]
    enum Adjacent {
        Dot(Point),
        Disc { center: Point },
    }

    #[derive(Debug, serde::Deserialize)]
    struct Generic<T> {
        inner: T,
    }

    /// What is refused here is what a derived `Deserialize` would accept.
    fn refused<T: DeserializeOwned + Debug>(json: &str, path: &str) {
        serde_json::from_str::<T>(json).expect("serde_json accepts the array");
        match read::<T>(json) {
            Err(JsonError::Mismatch { at, reason }) => {
                assert_eq!(reason, "expected an object, found an array");
                assert_eq!(at.path, path, "{json}");
            }
            other => panic!("{json}: {other:?}"),
        }
    }

    #[test]
    fn are_refused_wherever_a_struct_can_stand() {
        refused::<Point>("[1,2]", "");
        refused::<Box<Point>>("[1,2]", "");
        refused::<Option<Point>>(" [ 1, 2 ] ", "");
        refused::<Wrapper>("[1,2]", "");
        refused::<Vec<Point>>(r#"[{"x":1,"y":2},[1,2]]"#, "/1");
        refused::<(i64, Point)>("[1,[1,2]]", "/1");
        refused::<[Point; 1]>("[[1,2]]", "/0");
        refused::<BTreeMap<String, Point>>(r#"{"a/b":[1,2]}"#, "/a~1b");
        refused::<Generic<Generic<Point>>>(r#"{"inner":{"inner":[1,2]}}"#, "/inner/inner");
        refused::<Generic<Option<Vec<Point>>>>(r#"{"inner":[ [1,2]]}"#, "/inner/0");
        refused::<Shape>(r#"{"dot":[1,2]}"#, "/dot");
        refused::<Shape>(r#"{"line":[{"x":1,"y":2},[1,2]]}"#, "/line/1");
        refused::<Shape>(r#"{"disc":[{"x":1,"y":2},3]}"#, "/disc");
        refused::<Shape>(r#"{"disc":{"center":[1,2],"radius":3}}"#, "/disc/center");
        refused::<Adjacent>(r#"{"kind":"dot","value":[1,2]}"#, "/value");
    }

    #[test]
    fn objects_are_taken_there() {
        let p = r#"{"x":1,"y":2}"#;
        assert_eq!(read::<Wrapper>(p).unwrap().0, point(1, 2));
        assert_eq!(read::<Option<Point>>(p), Ok(Some(point(1, 2))));
        assert_eq!(read::<Vec<Point>>(&format!("[{p}]")), Ok(vec![point(1, 2)]));
        assert_eq!(
            read::<(i64, Point)>(&format!("[1,{p}]")),
            Ok((1, point(1, 2)))
        );
        let line = read::<Shape>(&format!(r#"{{"line":[{p},{p}]}}"#)).unwrap();
        assert!(matches!(line, Shape::Line(a, b) if a == b));
        let dot = read::<Shape>(&format!(r#"{{"dot":{p}}}"#)).unwrap();
        assert!(matches!(dot, Shape::Dot(Point { x: 1, y: 2 })));
        let disc = read::<Shape>(&format!(r#"{{"disc":{{"center":{p},"radius":3}}}}"#)).unwrap();
        assert!(matches!(
            disc,
            Shape::Disc {
                center: Point { x: 1, y: 2 },
                radius: 3
            }
        ));
        let dot = read::<Adjacent>(&format!(r#"{{"kind":"dot","value":{p}}}"#)).unwrap();
        assert!(matches!(dot, Adjacent::Dot(Point { x: 1, y: 2 })));
        let disc = format!(r#"{{"kind":"disc","value":{{"center":{p}}}}}"#);
        let disc = read::<Adjacent>(&disc).unwrap();
        assert!(matches!(
            disc,
            Adjacent::Disc {
                center: Point { x: 1, y: 2 }
            }
        ));
        assert_eq!(read::<Generic<i64>>(r#"{"inner":1}"#).unwrap().inner, 1);
    }
}

mod duplicates {
    use super::*;

    fn refused<T: DeserializeOwned + Debug>(json: &str, path: &str) {
        match read::<T>(json) {
            Err(JsonError::DuplicateMember { at }) => assert_eq!(at.path, path, "{json}"),
            other => panic!("{json}: {other:?}"),
        }
    }

    #[test]
    fn are_refused_whatever_reads_them() {
        refused::<Point>(r#"{"x":1,"y":2,"x":1}"#, "/x");
        refused::<Value>(r#"{"a":{"b":1,"c":[],"b":1}}"#, "/a/b");
        refused::<BTreeMap<String, i64>>(r#"{"a":1,"b":1,"a":2}"#, "/a");
        refused::<Vec<IgnoredAny>>(r#"[0,{"a":1,"a":2}]"#, "/1/a");
        refused::<Box<RawValue>>(r#"{"m":[{},{"a":1,"a":2}]}"#, "/m/1/a");
        refused::<Value>(r#"{"":1,"":2}"#, "/");
    }

    #[test]
    fn are_found_behind_escapes() {
        refused::<Value>(r#"{"a":1,"\u0061":2}"#, "/a");
        refused::<Value>(r#"{"😀":1,"\ud83d\ude00":2}"#, "/😀");
    }

    #[test]
    fn are_found_where_they_repeat_first() {
        match read::<Value>("{\"b\":0,\n \"a\":1, \"a\":2, \"b\":3, \"a\":4}") {
            Err(JsonError::DuplicateMember { at }) => {
                assert_eq!((at.line, at.column, &*at.path), (2, 9, "/a"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn in_different_objects_are_none() {
        let json = r#"{"a":{"a":[{"a":1},{"a":2}]},"b":{"a":3}}"#;
        assert_eq!(read::<Value>(json), Ok(serde_json::from_str(json).unwrap()));
    }
}

mod bounds {
    use super::*;

    fn nested(levels: usize) -> String {
        format!("{}{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn depth_is_bounded_for_every_reader() {
        assert!(read::<Value>(&nested(16)).is_ok());
        for refused in [
            read::<Value>(&nested(17)).err(),
            read::<IgnoredAny>(&nested(17)).err(),
            read::<Box<RawValue>>(&nested(17)).err(),
            read::<Value>(&nested(20_000)).err(),
        ] {
            match refused {
                Some(JsonError::TooDeep { at, max: 16 }) => {
                    assert_eq!(at.column, 17);
                    assert_eq!(at.path, "/0".repeat(16));
                }
                other => panic!("{other:?}"),
            }
        }
        let objects = format!("{}1{}", r#"{"a":"#.repeat(17), "}".repeat(17));
        assert!(matches!(
            read::<Value>(&objects),
            Err(JsonError::TooDeep { .. })
        ));
    }

    #[test]
    fn the_deepest_bound_is_one_that_serde_json_can_reach() {
        let limits = Limits {
            depth: u8::MAX,
            ..Limits::default()
        };
        let deepest = usize::from(Limits::DEPTH_MAX);
        assert!(from_slice_strict::<Value>(nested(deepest).as_bytes(), limits).is_ok());
        assert!(matches!(
            from_slice_strict::<Value>(nested(deepest + 1).as_bytes(), limits),
            Err(JsonError::TooDeep {
                max: Limits::DEPTH_MAX,
                ..
            })
        ));
    }

    #[test]
    fn length_is_bounded() {
        let limits = Limits {
            bytes: 4,
            ..Limits::default()
        };
        assert_eq!(from_slice_strict::<Value>(b"null", limits), Ok(Value::Null));
        assert_eq!(
            from_slice_strict::<Value>(b"false", limits),
            Err(JsonError::TooLong { found: 5, max: 4 })
        );
    }

    #[test]
    fn errors_do_not_repeat_long_names() {
        let name = "n".repeat(5_000);
        let unknown = refusal::<Point>(&format!(r#"{{"{name}":1}}"#));
        assert!(unknown.len() < 500, "{unknown}");
        let twice = refusal::<Value>(&format!(r#"{{"{name}":1,"{name}":1}}"#));
        assert!(twice.len() < 500, "{twice}");
    }
}

mod grammar {
    use super::*;

    #[test]
    fn what_follows_the_document_is_refused() {
        for json in ["1 2", "{}{}", "[],", "null\u{0}", "\"a\"b"] {
            assert!(
                matches!(read::<Value>(json), Err(JsonError::TrailingData { .. })),
                "{json}"
            );
        }
        assert_eq!(read::<Value>(" \t\r\n1 \t\r\n"), Ok(Value::from(1)));
    }

    #[test]
    fn bad_utf8_is_refused() {
        let limits = Limits::default();
        assert_eq!(
            from_slice_strict::<Value>(b"\"ab\xFF\"", limits),
            Err(JsonError::NotUtf8 { offset: 3 })
        );
        // A surrogate, encoded.
        assert_eq!(
            from_slice_strict::<Value>(b"\"\xED\xA0\x80\"", limits),
            Err(JsonError::NotUtf8 { offset: 1 })
        );
    }

    #[test]
    fn everything_else_is_refused_as_syntax() {
        for json in [
            "",
            " ",
            "{",
            "[",
            "\"",
            "}",
            "]",
            ",",
            ":",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1}",
            "{]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1]",
            "{\"a\" 1}",
            "{a:1}",
            "{1:1}",
            "{,}",
            "{\"a\":1 \"b\":1}",
            "'a'",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12G4\"",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud800\\u0041\"",
            "\"\n\"",
            "\"\u{0}\"",
            "01",
            "-",
            "+1",
            ".5",
            "1.",
            "1e",
            "1e+",
            "0x1",
            "--1",
            "1.e1",
            "tru",
            "True",
            "nul",
            "nullx",
            "NaN",
            "Infinity",
            "-Infinity",
            "undefined",
            "\u{FEFF}1",
            "/**/1",
            "[1]]x",
        ] {
            let refused = read::<Value>(json);
            let expected = if json == "[1]]x" {
                matches!(refused, Err(JsonError::TrailingData { .. }))
            } else {
                matches!(refused, Err(JsonError::Syntax { .. }))
            };
            assert!(expected, "{json}: {refused:?}");
        }
    }

    #[test]
    fn errors_say_where() {
        let json =
            "{\n  \"votes\": [\n    {\"x\": 1, \"y\": 2},\n    {\"x\": 1, \"y\": two}\n  ]\n}";
        match read::<Value>(json) {
            Err(JsonError::Syntax { at, .. }) => {
                assert_eq!((at.line, at.column), (4, 19));
                assert_eq!(at.path, "/votes/1/y");
            }
            other => panic!("{other:?}"),
        }
        let mismatch = json.replace("two", "\"two\"");
        match read::<BTreeMap<String, Vec<Point>>>(&mismatch) {
            Err(JsonError::Mismatch { at, reason }) => {
                let integer =
                    "an integer from -9223372036854775808 to 9223372036854775807, found a string";
                assert_eq!(reason, format!("expected {integer}"));
                assert_eq!((at.line, at.column, &*at.path), (4, 19, "/votes/1/y"));
            }
            other => panic!("{other:?}"),
        }
    }

    /// A value that should have had a child is itself the place.
    #[test]
    fn a_child_that_is_missing_is_no_place() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Unit {
            One,
        }
        for (unit, path) in [("{}", "/1"), ("\"two\"", "/1"), ("{\"one\":1}", "/1/one")] {
            match read::<Vec<Unit>>(&format!("[\"one\",{unit},\"one\"]")) {
                Err(JsonError::Mismatch { at, .. }) => assert_eq!(at.path, path, "{unit}"),
                other => panic!("{unit}: {other:?}"),
            }
        }
        assert!(matches!(read::<Unit>("\"one\""), Ok(Unit::One)));
    }

    #[test]
    fn members_are_required_and_known() {
        assert_eq!(
            refusal::<Vec<Point>>(r#"[{"x":1}]"#),
            "line 1 column 2 (/0): missing field `y`"
        );
        assert_eq!(
            refusal::<Vec<Point>>(r#"[{"x":1,"z":1}]"#),
            "line 1 column 13 (/0/z): unknown field; the known ones are `x`, `y`"
        );
    }
}

/// Replicas of different builds must spell an error alike.
mod words {
    use std::fmt;

    use serde::de::{Deserializer, Error, Expected, MapAccess, Unexpected, Visitor};

    use super::*;

    /// What a library might say, in this version or the next.
    const THEIRS: &str = "gobbledygook";

    struct Theirs;

    impl Expected for Theirs {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(THEIRS)
        }
    }

    type Refusal<E> = fn() -> E;

    /// Refuses every value, in one of the ways that serde offers.
    #[derive(Debug)]
    struct Picky;

    impl<'de> serde::Deserialize<'de> for Picky {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let way = usize::deserialize(deserializer)?;
            let ways: [Refusal<D::Error>; 9] = [
                || D::Error::custom(THEIRS),
                || D::Error::custom(format_args!("{THEIRS} at line 7 column 9")),
                || D::Error::invalid_type(Unexpected::Other(THEIRS), &Theirs),
                || D::Error::invalid_value(Unexpected::Str(THEIRS), &THEIRS),
                || D::Error::invalid_length(7, &Theirs),
                || D::Error::unknown_variant(THEIRS, &["a", "b"]),
                || D::Error::unknown_field(THEIRS, &["a", "b"]),
                || D::Error::missing_field("a"),
                || refuse("our own words"),
            ];
            Err(ways[way]())
        }
    }

    #[derive(Debug, serde::Deserialize)]
    struct Holder {
        #[serde(rename = "picky")]
        _picky: Vec<Picky>,
    }

    #[test]
    fn of_a_library_never_pass() {
        let expected = [
            "the value is refused",
            "the value is refused",
            "expected another value, found `2`",
            "expected another value, found `3`",
            "expected another value, found `4`",
            "expected one of `a`, `b`",
            "unknown field; the known ones are `a`, `b`",
            "missing field `a`",
            "our own words",
        ];
        for (way, words) in expected.into_iter().enumerate() {
            for (json, path, column) in [(way.to_string(), "", 1), (format!("[{way}]"), " (/0)", 2)]
            {
                let error = if path.is_empty() {
                    read::<Picky>(&json).unwrap_err()
                } else {
                    read::<(Picky,)>(&json).unwrap_err()
                };
                let place = format!("line 1 column {column}{path}");
                assert_eq!(error.own_words(), format!("{place}: {words}"));
                // Where nothing is replicated, a type may say it in its own way.
                let foreign = matches!(error, JsonError::Refused { .. });
                assert_eq!(error.to_string().contains(THEIRS), foreign, "{error}");
            }
            let error = read::<Holder>(&format!(r#"{{"picky":[{way}]}}"#)).unwrap_err();
            assert_eq!(
                error.own_words(),
                format!("line 1 column 11 (/picky/0): {words}")
            );
        }
    }

    /// A visitor that speaks for itself, as ours do where the type has no better hint.
    #[derive(Debug)]
    struct Choosy;

    impl<'de> serde::Deserialize<'de> for Choosy {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Form;
            impl<'de> Visitor<'de> for Form {
                type Value = Choosy;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    fmt::Display::fmt(&Own("a list or an object"), f)
                }

                fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Choosy, A::Error> {
                    Ok(Choosy)
                }
            }
            deserializer.deserialize_any(Form)
        }
    }

    /// One case for each kind of mismatch; these bytes are replicated.
    #[test]
    fn are_pinned() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Kind {
            Dot,
            Line(#[expect(dead_code, reason = "only its reading fails")] Point),
        }
        fn said<T: DeserializeOwned + Debug>(json: &str) -> String {
            let error = read::<T>(json).unwrap_err();
            assert!(matches!(error, JsonError::Mismatch { .. }), "{error:?}");
            let words = error.own_words();
            let place = "line 1 column 1: ";
            words.strip_prefix(place).unwrap_or(&words).to_owned()
        }
        assert_eq!(said::<bool>("1"), "expected `true` or `false`, found `1`");
        let byte = "expected an integer from 0 to 255, found";
        assert_eq!(said::<u8>("256"), format!("{byte} `256`"));
        assert_eq!(said::<u8>("-1"), format!("{byte} `-1`"));
        assert_eq!(
            said::<u8>("1.0"),
            format!("{byte} the floating point number `1.0`")
        );
        assert_eq!(said::<u8>("\"1\""), format!("{byte} a string"));
        assert_eq!(said::<u8>("{}"), format!("{byte} an object"));
        assert_eq!(said::<u8>("true"), format!("{byte} `true`"));
        assert_eq!(said::<Option<u8>>("[]"), format!("{byte} an array"));
        assert_eq!(said::<String>("null"), "expected a string, found `null`");
        assert_eq!(
            said::<char>("\"ab\""),
            "expected a string of one character, found a string"
        );
        assert_eq!(said::<()>("0"), "expected `null`, found `0`");
        assert_eq!(said::<Vec<u8>>("{}"), "expected an array, found an object");
        assert_eq!(
            said::<(u8, u8)>("[1]"),
            "expected an array of 2, found an array"
        );
        assert_eq!(
            said::<(u8, u8)>("[1,2,3]"),
            "expected an array of 2, found an array"
        );
        assert_eq!(
            said::<BTreeMap<String, u8>>("[]"),
            "expected an object, found an array"
        );
        assert_eq!(said::<Point>("[1,2]"), "expected an object, found an array");
        assert_eq!(said::<Point>("null"), "expected an object, found `null`");
        assert_eq!(said::<Point>("{}"), "missing field `x`");
        assert_eq!(
            said::<Kind>("1"),
            "expected one of `dot`, `line`, found `1`"
        );
        assert_eq!(said::<Kind>("\"x\""), "expected one of `dot`, `line`");
        assert_eq!(
            said::<Kind>(r#"{"dot":1}"#),
            "line 1 column 8 (/dot): expected `null`, found `1`"
        );
        assert_eq!(
            said::<Kind>("\"line\""),
            "expected an object of the variant's name and its content, found a string"
        );
        assert_eq!(
            said::<Kind>(r#"{"line":[1,2]}"#),
            "line 1 column 9 (/line): expected an object, found an array"
        );
        assert_eq!(said::<NumberText>("\"1\""), "not a JSON number");
        assert_eq!(
            said::<crate::Digest>("\"ab\""),
            "a SHA-256 digest has 64 hexadecimal digits, not 2 bytes"
        );
        assert_eq!(said::<crate::Digest>("1"), "expected a string, found `1`");
    }

    /// The mark of our words shows in no other deserializer.
    #[test]
    fn of_our_own_are_plain_elsewhere() {
        let theirs = serde_json::from_str::<crate::Digest>("\"ab\"").unwrap_err();
        assert_eq!(
            theirs.to_string(),
            "a SHA-256 digest has 64 hexadecimal digits, not 2 bytes at line 1 column 4"
        );
        let choosy = read::<Choosy>("1").unwrap_err();
        assert_eq!(
            choosy.own_words(),
            "line 1 column 1: expected a list or an object, found `1`"
        );
        let theirs = serde_json::from_str::<Choosy>("1").unwrap_err().to_string();
        assert!(
            theirs.contains("expected a list or an object at"),
            "{theirs}"
        );
    }
}

mod values {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Envelope<'a> {
        name: &'a str,
        #[serde(borrow)]
        content: &'a RawValue,
        more: Option<Box<RawValue>>,
    }

    #[test]
    fn raw_values_keep_their_bytes() {
        let json = r#"{"name":"n","content": {"b" : 1.50, "a":[ ]} ,"more":[1]}"#;
        let envelope: Envelope<'_> = from_slice_strict(json.as_bytes(), Limits::default()).unwrap();
        assert_eq!(envelope.name, "n");
        assert_eq!(envelope.content.get(), r#"{"b" : 1.50, "a":[ ]}"#);
        assert_eq!(envelope.more.unwrap().get(), "[1]");
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Optional {
        #[serde(default, deserialize_with = "present")]
        x: Option<i64>,
    }

    #[test]
    fn an_optional_member_is_absent_or_there() {
        assert_eq!(read("{}"), Ok(Optional { x: None }));
        assert_eq!(read(r#"{"x":1}"#), Ok(Optional { x: Some(1) }));
        assert_eq!(
            refusal::<Optional>(r#"{"x":null}"#),
            "line 1 column 6 (/x): expected an integer from \
             -9223372036854775808 to 9223372036854775807, found `null`"
        );
    }

    #[test]
    fn integers_are_not_floats() {
        for number in ["1.0", "1e3", "-0", "9223372036854775808"] {
            assert!(read::<i64>(number).is_err(), "{number}");
        }
    }

    #[test]
    fn number_text_is_verbatim() {
        for number in [
            "0",
            "1",
            "-1",
            "1.50",
            "1e-07",
            "0.1000000000000000055511151231257827",
        ] {
            let text: NumberText = read(number).unwrap();
            assert_eq!(text.as_str(), number);
            assert_eq!(serde_json::to_string(&text).unwrap(), number);
            let binary = postcard::to_stdvec(&text).unwrap();
            assert_eq!(postcard::from_bytes::<NumberText>(&binary), Ok(text));
        }
        for other in ["\"1\"", "null", "true", "[1]", "{}"] {
            assert!(read::<NumberText>(other).is_err(), "{other}");
        }
        for other in ["", " 1", "1 ", "+1", "01", "1.", "one"] {
            assert_eq!(
                other.parse::<NumberText>(),
                Err(ParseNumberError),
                "{other}"
            );
        }
        assert_eq!(NumberText::from(7).as_str(), "7");
    }
}

mod canonical {
    use super::*;

    /// Inputs and outputs of Python's `json.dumps(json.loads(document), sort_keys=True,
    /// separators=(",", ":"), ensure_ascii=False)`.
    const PINNED: [(&str, &str); 5] = [
        ("{}", "{}"),
        (" [ ] ", "[]"),
        (
            r#"{"b": [1, 2.5, {"z": null, "a": true}], "a": "text", "B": false}"#,
            r#"{"B":false,"a":"text","b":[1,2.5,{"a":true,"z":null}]}"#,
        ),
        (
            r#"{"\u00e9": 1, "e": "\u007f\u2028\"\\/\b\f\n\r\t\u0001\u001f", "\ufb33": 2,
                "\ud83d\ude00": 3, "a": {"z": [1, 2.5, 0, null, true], "": {}}}"#,
            "{\"a\":{\"\":{},\"z\":[1,2.5,0,null,true]},\
             \"e\":\"\u{7f}\u{2028}\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\",\
             \"é\":1,\"\u{fb33}\":2,\"😀\":3}",
        ),
        (r#""\/\u002f""#, r#""//""#),
    ];

    #[test]
    fn equals_python() {
        for (raw, expected) in PINNED {
            assert_eq!(canonicalize(raw, 16).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn numbers_stay_as_written() {
        let raw = "[1.0,1E2,-0,0.1000000000000000055511151231257827,12345678901234567890123]";
        assert_eq!(canonicalize(raw, 16).as_deref(), Ok(raw));
    }

    #[test]
    fn refuses_what_has_two_readings() {
        let refused = |raw: &str| canonicalize(raw, 2).unwrap_err();
        assert!(matches!(
            refused(r#"{"a":1,"a":1}"#),
            JsonError::DuplicateMember { .. }
        ));
        assert!(matches!(
            refused("[[[]]]"),
            JsonError::TooDeep { max: 2, .. }
        ));
        assert!(matches!(refused("1 1"), JsonError::TrailingData { .. }));
        assert!(matches!(refused(""), JsonError::Syntax { .. }));
        assert!(matches!(refused(r#""\ud800""#), JsonError::Syntax { .. }));
    }
}

mod properties {
    use super::*;

    /// Documents with integers only: floats are respelled by serde_json.
    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 60, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// Text that is nearly JSON.
    fn near_json() -> impl Strategy<Value = String> {
        let token = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"a\"",
            "\"b\"",
            "\"\\u0061\"",
            "\"\\ud83d\"",
            "\"\\ude00\"",
            "\"",
            "\\",
            "1",
            "0",
            "-",
            "2.5",
            "e",
            "true",
            "null",
            "nul",
            " ",
            "\n",
            "é",
            "\u{1}",
            "{\"a\":",
            "[1,",
            "{\"c\":1,",
        ]);
        prop::collection::vec(token, 0..14).prop_map(|tokens| tokens.concat())
    }

    /// Every object's members, written one after the other by hand.
    fn naive_canonical(value: &Value) -> String {
        match value {
            Value::Array(elements) => {
                let elements: Vec<String> = elements.iter().map(naive_canonical).collect();
                format!("[{}]", elements.join(","))
            }
            Value::Object(members) => {
                let names: BTreeSet<&String> = members.keys().collect();
                let members: Vec<String> = names
                    .into_iter()
                    .map(|name| {
                        let value = naive_canonical(&members[name]);
                        format!("{}:{value}", Value::from(name.as_str()))
                    })
                    .collect();
                format!("{{{}}}", members.join(","))
            }
            leaf => leaf.to_string(),
        }
    }

    proptest! {
        #[test]
        fn documents_are_read_as_written(document in document()) {
            let pretty = serde_json::to_string_pretty(&document).unwrap();
            prop_assert_eq!(read::<Value>(&pretty), Ok(document));
        }

        #[test]
        fn canonical_form_is_one_and_means_the_same(document in document()) {
            let pretty = serde_json::to_string_pretty(&document).unwrap();
            let canonical = canonicalize(&pretty, 16).unwrap();
            prop_assert_eq!(&canonical, &naive_canonical(&document));
            prop_assert_eq!(canonicalize(&canonical, 16), Ok(canonical.clone()));
            prop_assert_eq!(serde_json::from_str::<Value>(&canonical).unwrap(), document);
        }

        /// The reader's grammar is serde_json's, and what it refuses beyond it has a name.
        #[test]
        fn the_grammar_is_that_of_serde_json(text in near_json()) {
            let theirs = serde_json::from_str::<Value>(&text);
            match canonicalize(&text, Limits::DEPTH_MAX) {
                Ok(canonical) => match theirs {
                    Ok(value) => prop_assert_eq!(read::<Value>(&canonical), Ok(value)),
                    Err(error) => {
                        prop_assert!(error.to_string().starts_with("number out of range"));
                    }
                },
                Err(JsonError::DuplicateMember { .. }) => prop_assert!(theirs.is_ok()),
                Err(error) => prop_assert!(theirs.is_err(), "{}: {}", text, error),
            }
        }

        #[test]
        fn places_lie_within_the_text(text in near_json()) {
            let place = match read::<BTreeMap<String, Vec<Point>>>(&text) {
                Err(
                    JsonError::Syntax { at, .. }
                    | JsonError::TooDeep { at, .. }
                    | JsonError::DuplicateMember { at }
                    | JsonError::TrailingData { at }
                    | JsonError::Mismatch { at, .. }
                    | JsonError::Refused { at, .. },
                ) => at,
                Err(error @ (JsonError::TooLong { .. } | JsonError::NotUtf8 { .. })) => {
                    return Err(TestCaseError::fail(error.to_string()));
                }
                Ok(_) => return Ok(()),
            };
            let line = text.split('\n').nth(place.line - 1);
            prop_assert!(line.is_some_and(|line| (0..=line.len() + 1).contains(&place.column)));
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>, text: String) {
            let strict = from_slice_strict::<Value>(&bytes, Limits::default());
            prop_assert!(strict.is_err() || serde_json::from_slice::<Value>(&bytes).is_ok());
            let canonical = canonicalize(&text, 16);
            prop_assert!(canonical.is_err() || serde_json::from_str::<IgnoredAny>(&text).is_ok());
        }
    }
}
