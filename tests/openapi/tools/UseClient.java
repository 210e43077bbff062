import java.math.BigDecimal;
import java.util.List;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.api.ChangesApi;
import org.openapitools.client.api.CompaniesApi;
import org.openapitools.client.model.Change;
import org.openapitools.client.model.Company;
import org.openapitools.client.model.CompanyPatch;
import org.openapitools.client.model.NewCompany;
import org.openapitools.client.model.PartialCompany;
import org.openapitools.client.model.Problem;

/** A program that uses the client that openapi-generator's java generated, with the library native. */
class UseClient {
    static void check(boolean holds, String promise) {
        if (!holds) throw new AssertionError(promise);
    }

    static List<Company> create(CompaniesApi companies, NewCompany... rows) throws ApiException {
        return companies.createCompany(
            CompaniesApi.APICreateCompanyRequest.newBuilder().newCompany(List.of(rows)).build());
    }

    public static void main(String[] arguments) throws Exception {
        ApiClient client = new ApiClient();
        client.updateBaseUri(arguments[0]);
        client.setRequestInterceptor(request -> request.header("Authorization", "Bearer " + arguments[1]));
        CompaniesApi companies = new CompaniesApi(client);

        Company acme = create(companies, new NewCompany().name("Acme Java").dealValue(new BigDecimal("50000"))).get(0);
        check(acme.getWebsite() == null && acme.getCreatedAt() != null, "One company is created.");
        List<Company> both = create(
            companies, new NewCompany().name("Globex Java").dealValue(new BigDecimal("49999.99")), new NewCompany().name("Hooli Java"));
        check(both.size() == 2 && both.get(1).getDealValue() == null, "Two companies are created.");

        List<PartialCompany> found = companies.listCompanies(CompaniesApi.APIListCompaniesRequest.newBuilder()
            .q("Java").dealValueGte(new BigDecimal("50000")).createdAtGte(acme.getCreatedAt()).build());
        check(found.size() == 1 && found.get(0).getId().equals(acme.getId()), "dealValue[gte] filters.");
        var page = companies.listCompaniesWithHttpInfo(CompaniesApi.APIListCompaniesRequest.newBuilder()
            .name(List.of("Acme Java", "Globex Java")).limit(1).fields("id").sort("-name").build());
        check(page.getData().get(0).getId().equals(both.get(0).getId()), "A page has the first rows.");
        check(page.getHeaders().get("link").get(0).contains("cursor="), "A page links to the next.");

        Company updated = companies.updateCompany(CompaniesApi.APIUpdateCompanyRequest.newBuilder()
            .id(acme.getId()).companyPatch(new CompanyPatch().isCustomer(true)).build());
        check(updated.getIsCustomer() && updated.getDealValue().intValue() == 50000, "One field is updated.");
        PartialCompany shown = companies.getCompany(
            CompaniesApi.APIGetCompanyRequest.newBuilder().id(acme.getId()).include("contacts").build());
        check(shown.getContacts().isEmpty(), "A company has contacts.");
        List<Change> changes = new ChangesApi(client).listChanges(ChangesApi.APIListChangesRequest.newBuilder().build());
        check(changes.stream().anyMatch(change -> "Hooli Java".equals(change.getData().get("name"))), "A change has the row.");

        try {
            create(companies, new NewCompany().name(""));
            check(false, "An empty name is refused.");
        } catch (ApiException error) {
            Problem problem = client.getObjectMapper().readValue(error.getResponseBody(), Problem.class);
            check(problem.getStatus() == 422 && problem.getErrors().get(0).getPointer().equals("/0/name"), "An error names the field.");
        }
    }
}
