//! Our definitions against the published ones: every name, number and type, both ways. The table
//! was taken from SPIRE's API definitions and the Workload API standard; a line that differs means
//! that somebody else's program would read our bytes wrongly.

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

const PUBLISHED: &str = include_str!("wire_tests/published.txt");

#[test]
fn every_field_and_method_is_as_published() {
    let published: BTreeSet<String> = PUBLISHED.lines().map(str::to_owned).collect();
    let mut ours = lines(crate::workload::FILE_DESCRIPTOR_SET);
    ours.extend(lines(crate::SERVER_FILE_DESCRIPTOR_SET));
    let missing: Vec<_> = published.difference(&ours).collect();
    let unknown: Vec<_> = ours.difference(&published).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing: {missing:#?}\nunknown: {unknown:#?}");
}

fn lines(descriptors: &[u8]) -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(descriptors).unwrap();
    let mut lines = BTreeSet::new();
    for file in &set.file {
        let package = file.package();
        if package.starts_with("google.") || package.starts_with("svidecar.") {
            continue;
        }
        file.message_type.iter().for_each(|message| describe(package, message, &mut lines));
        for service in &file.service {
            for method in &service.method {
                let side = |streams: bool, name: &str| {
                    format!("{}{}", if streams { "stream " } else { "" }, short(name))
                };
                lines.insert(format!(
                    "{package}.{}/{}: {} -> {}",
                    service.name(),
                    method.name(),
                    side(method.client_streaming(), method.input_type()),
                    side(method.server_streaming(), method.output_type()),
                ));
            }
        }
    }
    lines
}

fn describe(scope: &str, message: &DescriptorProto, lines: &mut BTreeSet<String>) {
    let scope = format!("{scope}.{}", message.name());
    for field in &message.field {
        let kind = match field.r#type() {
            Type::Message | Type::Enum => short(field.type_name()).to_owned(),
            scalar => format!("{scalar:?}").to_lowercase(),
        };
        let repeated = if field.label() == Label::Repeated { "repeated " } else { "" };
        lines.insert(format!("{scope}.{} = {} {repeated}{kind}", field.name(), field.number()));
    }
    message.nested_type.iter().for_each(|nested| describe(&scope, nested, lines));
    message.enum_type.iter().for_each(|nested| describe_enum(&scope, nested, lines));
}

fn describe_enum(scope: &str, nested: &EnumDescriptorProto, lines: &mut BTreeSet<String>) {
    for value in &nested.value {
        lines.insert(format!("{scope}.{}.{} = {}", nested.name(), value.name(), value.number()));
    }
}

fn short(type_name: &str) -> &str {
    type_name.rsplit('.').next().unwrap_or(type_name)
}
