"""How names and values are parsed, stored and shown, for all layers."""


def public_name(name: str) -> str:
    """Return the public name of a column: company_id is companyId."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
