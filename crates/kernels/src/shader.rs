//! WGSL modules, written by a template where a family of variants shares one text.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior};

use crate::UniformLayout;
use crate::error::ShaderError;

/// A WGSL module: the operation's own files, preceded by what they import from `shaders/shared/`.
///
/// Together the parts are one template: `{% for %}` unrolls what must stay in registers, `{{ NAME }}` puts a
/// definition in, `{% if %}` chooses. Text without such marks is plain WGSL.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Shader {
    /// The operation's name, which is also the file's or the folder's.
    pub name: &'static str,
    /// The texts in order.
    pub parts: &'static [&'static str],
    /// The uniform struct at group 0, binding 0.
    pub uniform: UniformLayout,
}

impl Shader {
    /// The whole module, expanded with `definitions`.
    ///
    /// # Errors
    /// Where the template is malformed or names something that is not defined.
    pub fn source(&self, definitions: &[(&'static str, u32)]) -> Result<String, ShaderError> {
        let text = self.parts.join("\n");
        let failed = |error: minijinja::Error| {
            let place = error.range().and_then(|range| text.get(range)).unwrap_or_default();
            ShaderError { shader: self.name, message: format!("{error}: `{place}`") }
        };
        let mut environment = Environment::new();
        // Errors then say what is undefined, in release builds too.
        environment.set_debug(true);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(failed)?);
        let definitions: BTreeMap<_, _> = definitions.iter().copied().collect();
        environment.render_str(&text, definitions).map_err(failed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::Shader;
    use crate::UniformLayout;

    const fn shader(text: &'static [&'static str]) -> Shader {
        let uniform = UniformLayout { name: "Params", fields: &[] };
        Shader { name: "test", parts: text, uniform }
    }

    #[test]
    fn loops_are_unrolled() {
        let shader = shader(&["{% for r in range(ROWS) %}", "  row_{{ r }} = {{ 4 * r }}u;", "{% endfor %}"]);
        assert_eq!(shader.source(&[("ROWS", 2)]).unwrap(), "  row_0 = 0u;\n  row_1 = 4u;\n");
    }

    #[test]
    fn what_is_not_defined_is_named() {
        let error = shader(&["{{ COLUMNS }}"]).source(&[]).unwrap_err().to_string();
        assert!(error.contains("test") && error.contains("COLUMNS"), "{error}");
    }
}
