// A program on the generated types: it compiles only if paths, parameters and errors have the right types.
import type { components, paths } from "./cardfile";

type Company = components["schemas"]["Company"];
type Problem = components["schemas"]["Problem"];
type Listing = paths["/api/v1/companies"]["get"];
type Query = NonNullable<Listing["parameters"]["query"]>;
type Answered = Listing["responses"][200]["content"]["application/json"];
type Sent = paths["/api/v1/companies"]["post"]["requestBody"]["content"]["application/json"];
type Refused = paths["/api/v1/companies"]["post"]["responses"][422]["content"]["application/problem+json"];

const query: Query = { limit: 10, sort: "-dealValue", stageId: ["stage-won"], "dealValue[gte]": 50000 };
// @ts-expect-error: there is no such parameter
const mistyped: Query = { limt: 10 };

const one: Sent = { name: "Acme", dealValue: 1999.5, website: null };
const several: Sent = [{ name: "Acme" }, { name: "Globex" }];
// @ts-expect-error: a company needs a name
const nameless: Sent = { dealValue: 1 };

export function namesOf(rows: Answered): string[] {
  return rows.map((row) => row.name ?? "without its name");
}

export function worthOf(company: Company): number {
  // @ts-expect-error: the value may be null
  const worth: number = company.dealValue;
  return company.dealValue ?? worth;
}

export function sentenceOf(refused: Refused): string {
  const problem: Problem = refused;
  return [problem.detail, ...(problem.errors ?? []).map((each) => `${each.pointer}: ${each.detail}`)].join("\n");
}

export const used = [query, mistyped, one, several, nameless];
