import { gql } from "urql";

export interface IndexInput {
  __type: {
    inputFields: readonly { name: string; description: string | null; defaultValue: string | null }[] | null;
  } | null;
}

/** No document of codegen's, which knows no introspection. A server may refuse it: then there are no hints. */
export const IndexInputDocument = gql<IndexInput, Record<string, never>>`
  query SaePageIndexInput {
    __type(name: "IndexNeuronsInput") {
      inputFields { name description defaultValue }
    }
  }
`;

export interface InputField {
  /** What the API takes where nothing is given. */
  usual: number | null;
  /** Its description, which tells the limits. */
  description: string | undefined;
}

/** Returns what the API's schema says of a number that it takes. */
export function inputField(data: IndexInput | undefined, name: string): InputField {
  const field = data?.__type?.inputFields?.find((one) => one.name === name);
  const usual = Number(field?.defaultValue ?? Number.NaN);
  return { usual: Number.isFinite(usual) ? usual : null, description: field?.description ?? undefined };
}
