// Convolution with filters of 3 × 3 by minimal filtering (Winograd 1980; Lavin and Gray 2016): OUT × OUT results of a
// channel come from TILE × TILE = (OUT + 2) × (OUT + 2) pixels, and with g the filter, d the pixels and ⊙ the product
// element by element
//
//   results = Aᵀ · ((G g Gᵀ) ⊙ (Bᵀ d B)) · A.
//
// Summed over channels, the products ⊙ are TILE² matrix products, one for each place in the tile, with
// (TILE / OUT)² multiply-adds a result in place of 9.
//
// Definitions: OUT, 2 or 4; ABREAST, how many tiles that lie side by side are in one value of a line.

{% set TILE = OUT + 2 %}
{% set VALUE = "f32" if ABREAST == 1 else "vec4<f32>" %}

// A row or a column of a tile, and of its results.
{% for name, type, count in [("Line", VALUE, TILE), ("Results", VALUE, OUT), ("FilterLine", "f32", TILE)] %}
struct {{ name }} {
    {% for i in range(count) %}
    v{{ i }}: {{ type }},
    {% endfor %}
}

{% endfor %}
{% if OUT == 4 %}
// G · g, Bᵀ · d and Aᵀ · m of F(4, 3), with the points 0, ±1, ±2 and ∞.
fn filter_line(g0: f32, g1: f32, g2: f32) -> FilterLine {
    let ends = (g0 + g2) / -6.0;
    let middle = g1 / 6.0;
    let far = g0 / 24.0 + g2 / 6.0;
    return FilterLine(g0 / 4.0, ends - middle, ends + middle, far + g1 / 12.0, far - g1 / 12.0, g2);
}

fn source_line(d: Line) -> Line {
    let even = d.v4 - 4.0 * d.v2;
    let odd = d.v3 - 4.0 * d.v1;
    let near = d.v4 - d.v2;
    let far = 2.0 * (d.v3 - d.v1);
    return Line(
        4.0 * d.v0 - 5.0 * d.v2 + d.v4,
        even + odd,
        even - odd,
        near + far,
        near - far,
        4.0 * d.v1 - 5.0 * d.v3 + d.v5,
    );
}

fn result_line(m: Line) -> Results {
    let sum = m.v1 + m.v2;
    let difference = m.v1 - m.v2;
    let far_sum = m.v3 + m.v4;
    let far_difference = m.v3 - m.v4;
    return Results(
        m.v0 + sum + far_sum,
        difference + 2.0 * far_difference,
        sum + 4.0 * far_sum,
        difference + 8.0 * far_difference + m.v5,
    );
}
{% else %}
// G · g, Bᵀ · d and Aᵀ · m of F(2, 3), with the points 0, ±1 and ∞.
fn filter_line(g0: f32, g1: f32, g2: f32) -> FilterLine {
    let ends = 0.5 * (g0 + g2);
    return FilterLine(g0, ends + 0.5 * g1, ends - 0.5 * g1, g2);
}

fn source_line(d: Line) -> Line {
    return Line(d.v0 - d.v2, d.v1 + d.v2, d.v2 - d.v1, d.v1 - d.v3);
}

fn result_line(m: Line) -> Results {
    return Results(m.v0 + m.v1 + m.v2, m.v1 - m.v2 - m.v3);
}
{% endif %}

fn weight_at(at: u32, r: u32, s: u32) -> f32 {
    let row = params.tap_first_h + r * params.tap_step_h;
    let column = params.tap_first_w + s * params.tap_step_w;
    return w[at + row * params.w_row + column];
}

{# The filter that begins at `at`, transformed: value j of line i is line_i.vj. #}
{% macro transform_filter() %}
    {% for s in range(3) %}
    let down_{{ s }} = filter_line(weight_at(at, 0u, {{ s }}u), weight_at(at, 1u, {{ s }}u), weight_at(at, 2u, {{ s }}u));
    {% endfor %}
    {% for i in range(OUT + 2) %}
    let line_{{ i }} = filter_line(down_0.v{{ i }}, down_1.v{{ i }}, down_2.v{{ i }});
    {% endfor %}
{% endmacro %}
