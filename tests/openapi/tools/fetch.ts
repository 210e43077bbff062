// A program that uses the client that openapi-generator's typescript-fetch generated.
import { ChangesApi, CompaniesApi, Configuration, ProblemFromJSON, ResponseError } from "./cardfile-typescript";

declare const process: { argv: string[] };
const [, , basePath, accessToken] = process.argv;
const configuration = new Configuration({ basePath, accessToken });
const companies = new CompaniesApi(configuration);

function check(holds: boolean, promise: string): void {
  if (!holds) throw new Error(promise);
}

async function main(): Promise<void> {
  const [acme] = await companies.createCompany({ newCompany: [{ name: "Acme TS", dealValue: 50000, website: null }] });
  check(acme.dealValue === 50000 && acme.website === null && acme.createdAt instanceof Date, "One company is created.");
  const both = await companies.createCompany({ newCompany: [{ name: "Globex TS", dealValue: 49999.99 }, { name: "Hooli TS" }] });
  check(both.length === 2 && both[1].dealValue === null, "Two companies are created.");

  const found = await companies.listCompanies({ q: "TS", dealValueGte: 50000, createdAtGte: acme.createdAt });
  check(found.length === 1 && found[0].id === acme.id, "dealValue[gte] filters.");
  // @ts-expect-error: with `fields`, a row may be without its name.
  const name: string = found[0].name;
  const page = await companies.listCompaniesRaw({ q: "TS", name: [name, "Globex TS"], limit: 1, fields: "id", sort: "-name" });
  const cursor = new URL(/<(.*)>; rel="next"/.exec(page.raw.headers.get("Link") ?? "")?.[1] ?? "").searchParams.get("cursor");
  check((await page.value())[0].id === both[0].id, "A page has the first rows.");
  const next = await companies.listCompanies({ q: "TS", name: [name, "Globex TS"], limit: 1, fields: "id", sort: "-name", cursor: cursor ?? "" });
  check(next.length === 1 && next[0].id === acme.id && next[0].name === undefined, "The next page has the next rows.");

  const updated = await companies.updateCompany({ id: acme.id, companyPatch: { dealValue: null, isCustomer: true } });
  check(updated.dealValue === null && updated.isCustomer, "A field is set to null.");
  check((await companies.getCompany({ id: acme.id, include: "contacts" })).contacts?.length === 0, "A company has contacts.");
  const changes = await new ChangesApi(configuration).listChanges({ since: 0 });
  check(changes.some((change) => change.data?.name === "Hooli TS"), "A change has the row.");

  try {
    await companies.createCompany({ newCompany: [{ name: "" }] });
    check(false, "An empty name is refused.");
  } catch (error) {
    if (!(error instanceof ResponseError)) throw error;
    const problem = ProblemFromJSON(await error.response.json());
    check(problem.status === 422 && problem.errors?.[0].pointer === "/0/name", "An error names the field.");
  }
}

void main();
